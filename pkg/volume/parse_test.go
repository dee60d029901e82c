package volume_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestParseWholeRequest(t *testing.T) {
	t.Parallel()
	got := mustParse(t, valid(pairs{
		"secrets":          "db-password;web-tls::web.crt:web.key",
		"certificates":     "ca",
		"objects":          "- secret: api-key\n  path: app/api.key\n  mode: \"0440\"\n",
		"rotationInterval": "5m",
		"timeout":          "90s",
		"chainOrder":       "pfx",
	}), nil)
	want := volume.Request{
		Pod: volume.Pod{
			Name: "web-0", Namespace: "shop", UID: "3f4e2a0c-9d4e-4c3b-8f57-000000000001", ServiceAccount: "web",
		},
		Identity: volume.Identity{
			Kind:      volume.Workload,
			ClientID:  clientID,
			Assertion: volume.NewSecret([]byte(jwt(`{"sub":"system:serviceaccount:shop:web","aud":["` + audience + `"]}`))),
		},
		Objects: []volume.Object{
			{
				Kind: volume.KindSecret, Source: "secrets[0]", Vault: "https://myvault.vault.azure.net", Name: "db-password",
				Encoding: volume.UTF8, HonourEncodingTag: true,
				Outputs: []volume.Output{{Part: volume.PartValue, Path: "secrets/db-password"}},
				Split: []volume.Output{
					{Part: volume.PartKey, Path: "keys/db-password"}, {Part: volume.PartChain, Path: "certs/db-password"},
				},
				ChainOrder: volume.ChainOrderPFX, KeyFormat: volume.PKCS8,
			},
			{
				Kind: volume.KindSecret, Source: "secrets[1]", Vault: "https://myvault.vault.azure.net", Name: "web-tls",
				Encoding: volume.UTF8, HonourEncodingTag: true,
				Outputs: []volume.Output{{Part: volume.PartValue, Path: "secrets/web-tls"}},
				Split: []volume.Output{
					{Part: volume.PartKey, Path: "certs_keys/web.key"}, {Part: volume.PartChain, Path: "certs_keys/web.crt"},
				},
				NeedsCertificate: true, ChainOrder: volume.ChainOrderPFX, KeyFormat: volume.PKCS8,
			},
			{
				Kind: volume.KindPublicCertificate, Source: "certificates[0]", Vault: "https://myvault.vault.azure.net",
				Name: "ca", Outputs: []volume.Output{{Part: volume.PartLeaf76, Path: "certs/ca"}},
			},
			{
				Kind: volume.KindSecret, Source: "objects[0]", Vault: "https://myvault.vault.azure.net", Name: "api-key",
				Encoding: volume.UTF8,
				Outputs:  []volume.Output{{Part: volume.PartValue, Path: "app/api.key", Mode: 0o440}},
			},
		},
		Folders:          []string{"secrets", "certs", "keys", "certs_keys"},
		RotationInterval: 5 * time.Minute,
		Timeout:          90 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Request (-want +got):\n%s", diff)
	}
}

func TestParseDefaults(t *testing.T) {
	t.Parallel()
	request, err := volume.Parse(valid(pairs{"vault": "myvault", "clientID": "-"}), nil, volume.Defaults{
		VaultSuffix: "Vault.Azure.CN", Identity: volume.Cluster, RotationInterval: 2 * time.Minute,
	})
	checkError(t, err, "")
	if got, want := request.Objects[0].Vault, "https://myvault.vault.azure.cn"; got != want {
		t.Errorf("vault %q, want %q", got, want)
	}
	if request.Identity.Kind != volume.Cluster || request.RotationInterval != 2*time.Minute {
		t.Errorf("identity %q, rotation interval %v", request.Identity.Kind, request.RotationInterval)
	}
	if request.Timeout != time.Minute { // as docs/reference.md says
		t.Errorf("timeout %v, want a minute", request.Timeout)
	}
}

func TestParseLists(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change  pairs
		folders int
	}{
		"empty secrets":                  {pairs{"secrets": ""}, 4},
		"blank secrets":                  {pairs{"secrets": " ; \n;"}, 4},
		"empty secrets need no vault":    {pairs{"secrets": "", "vault": "-"}, 4},
		"empty certificates":             {pairs{"secrets": "-", "certificates": ""}, 4},
		"empty objects":                  {pairs{"secrets": "-", "objects": ""}, 0},
		"objects that are a comment":     {pairs{"secrets": "-", "objects": "# later\n"}, 0},
		"objects that are an empty list": {pairs{"secrets": "-", "objects": "[]"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := mustParse(t, valid(row.change), nil)
			if len(request.Objects) != 0 || len(request.Folders) != row.folders {
				t.Errorf("%d objects, folders %q", len(request.Objects), request.Folders)
			}
		})
	}
	refuse(t, map[string]refusal{
		"no list": {pairs{"secrets": "-"}, nil,
			"volumeAttributes: at least one of secrets, certificates and objects must be there"},
	})
}

func TestUnknownAttributes(t *testing.T) {
	t.Parallel()
	for key, hint := range map[string]string{
		"clientId":                        "clientID",
		"CLIENT_ID":                       "clientID",
		"VAULT":                           "vault",
		"vaults":                          "vault",
		"downloadCaCertificates":          "downloadCACertificates",
		"downloadCACertificate":           "downloadCACertificates",
		"downloadCaCertificates.web":      "downloadCACertificates.web",
		"object":                          "objects",
		"secret":                          "secrets",
		"secrts":                          "secrets",
		"certificate":                     "certificates",
		"tenantId":                        "tenantID",
		"save_pfx":                        "savePFX",
		"rotation-interval":               "rotationInterval",
		"change-detection":                "changeDetection",
		"VAULT_BASE_URL":                  "vault",
		"SECRETS_KEYS":                    "secrets",
		"MSI_CLIENT_ID":                   "clientID",
		"web-TLS_DOWNLOAD_CA_CERTIFICATE": "downloadCACertificates.web-TLS",
		"keyvaultName":                    "vault",
		"userAssignedIdentityID":          "clientID",
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(valid(pairs{key: "true"}), nil, volume.Defaults{})
			checkError(t, err, key+": unknown attribute, did you mean "+hint+"?")
		})
	}
	refuse(t, map[string]refusal{
		"nothing like it": {pairs{"colour": plantedSecret}, nil, "colour: unknown attribute"},
		"client secret": {pairs{"clientSecret": plantedSecret}, nil,
			"clientSecret: unknown attribute, it belongs in the Secret of nodePublishSecretRef"},
		"empty key":   {pairs{"": "x"}, nil, `"": unknown attribute`},
		"hostile key": {pairs{"a\n\x1b[31mb\u0430": "x"}, nil, `"a\n\x1b[31mb\u0430": unknown attribute`},
		"long key":    {pairs{strings.Repeat("é", 60): "x"}, nil, `"` + strings.Repeat(`\u00e9`, 32) + `"...: unknown attribute`},
		"several, sorted": {pairs{"b": "1", "clientId": "2", "a": "3"}, nil,
			"a: unknown attribute; b: unknown attribute; clientId: unknown attribute, did you mean clientID?"},
	})
	mustParse(t, valid(pairs{volume.KubeletPrefix + "something.new": "x", volume.KubeletEphemeral: "false"}), nil)
}

func TestPodInfo(t *testing.T) {
	t.Parallel()
	const missing = ": is missing, the CSIDriver object must have podInfoOnMount: true"
	refuse(t, map[string]refusal{
		"name":            {pairs{volume.KubeletPodName: "-"}, nil, "csi.storage.k8s.io/pod.name" + missing},
		"namespace":       {pairs{volume.KubeletPodNamespace: "-"}, nil, "csi.storage.k8s.io/pod.namespace" + missing},
		"uid":             {pairs{volume.KubeletPodUID: ""}, nil, "csi.storage.k8s.io/pod.uid" + missing},
		"service account": {pairs{volume.KubeletServiceAccount: ""}, nil, "csi.storage.k8s.io/serviceAccount.name" + missing},
		"not a name": {pairs{volume.KubeletPodUID: "a\nb"}, nil,
			`csi.storage.k8s.io/pod.uid: "a\nb" is not a name that the kubelet sends`},
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()
	const (
		interval = ` must be a Go duration of at least 30s such as "5m", or "0" for never`
		timeout  = ` must be a Go duration above 0 and up to 110s such as "90s"`
	)
	refuse(t, map[string]refusal{
		"rotationInterval without unit": {pairs{"rotationInterval": "120"}, nil, `rotationInterval: "120"` + interval},
		"rotationInterval too short":    {pairs{"rotationInterval": "29s"}, nil, `rotationInterval: "29s"` + interval},
		"rotationInterval negative":     {pairs{"rotationInterval": "-1h"}, nil, `rotationInterval: "-1h"` + interval},
		"rotationInterval empty":        {pairs{"rotationInterval": ""}, nil, `rotationInterval: ""` + interval},
		"timeout zero":                  {pairs{"timeout": "0"}, nil, `timeout: "0"` + timeout},
		"timeout too long":              {pairs{"timeout": "111s"}, nil, `timeout: "111s"` + timeout},
		"timeout negative":              {pairs{"timeout": "-5s"}, nil, `timeout: "-5s"` + timeout},
		"timeout without unit":          {pairs{"timeout": "60"}, nil, `timeout: "60"` + timeout},
		"savePFX":                       {pairs{"savePFX": "yes"}, nil, `savePFX: "yes" must be true or false`},
		"downloadCACertificates":        {pairs{"downloadCACertificates": "1"}, nil, `downloadCACertificates: "1" must be true or false`},
		"chainOrder":                    {pairs{"chainOrder": "Chain"}, nil, `chainOrder: "Chain" must be chain, pfx or reverse`},
		"changeDetection":               {pairs{"changeDetection": "List"}, nil, `changeDetection: "List" must be read or list`},
		"changeDetection empty":         {pairs{"changeDetection": ""}, nil, `changeDetection: "" must be read or list`},
		"chainOrder empty":              {pairs{"chainOrder": ""}, nil, `chainOrder: "" must be chain, pfx or reverse`},
	})
	for text, want := range map[string]time.Duration{"0": 0, "0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute} {
		if got := mustParse(t, valid(pairs{"rotationInterval": text}), nil).RotationInterval; got != want {
			t.Errorf("rotationInterval %q is %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]time.Duration{"110s": 110 * time.Second, "500ms": 500 * time.Millisecond} {
		if got := mustParse(t, valid(pairs{"timeout": text}), nil).Timeout; got != want {
			t.Errorf("timeout %q is %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]volume.ChainOrder{
		"chain": volume.ChainOrderChain, "pfx": volume.ChainOrderPFX, "reverse": volume.ChainOrderReverse,
	} {
		request := mustParse(t, valid(pairs{"chainOrder": text, "objects": "[{certificate: c}]"}), nil)
		if request.Objects[0].ChainOrder != want || request.Objects[1].ChainOrder != want {
			t.Errorf("chainOrder %q is %q and %q", text, request.Objects[0].ChainOrder, request.Objects[1].ChainOrder)
		}
	}
}

// The attribute wins over the operator's default.
func TestChangeDetection(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		attributes pairs
		fallback   volume.ChangeDetection
		want       volume.ChangeDetection
	}{
		{nil, "", ""},
		{nil, volume.DetectByListing, volume.DetectByListing},
		{pairs{"changeDetection": "list"}, "", volume.DetectByListing},
		{pairs{"changeDetection": "read"}, volume.DetectByListing, volume.DetectByReading},
	} {
		request, err := volume.Parse(valid(row.attributes), nil, volume.Defaults{ChangeDetection: row.fallback})
		checkError(t, err, "")
		if request.ChangeDetection != row.want {
			t.Errorf("%v with the default %q: %q, want %q", row.attributes, row.fallback, request.ChangeDetection, row.want)
		}
	}
}

func TestRotationInterval(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		attributes pairs
		want       time.Duration
		err        string
	}{
		{nil, 2 * time.Minute, ""},
		{pairs{"vault": "!"}, 2 * time.Minute, ""},
		{pairs{"rotationInterval": "10m"}, 10 * time.Minute, ""},
		{pairs{"rotationInterval": "0"}, 0, ""},
		{pairs{"rotationInterval": "soon", "x": "y"}, 2 * time.Minute,
			`rotationInterval: "soon" must be a Go duration of at least 30s such as "5m", or "0" for never`},
	} {
		got, err := volume.RotationInterval(row.attributes, 2*time.Minute)
		checkError(t, err, row.err)
		if got != row.want {
			t.Errorf("%v: %v, want %v", row.attributes, got, row.want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	attributes := valid(pairs{
		"clientId":               "x",
		"vault":                  "http://myvault.vault.azure.net",
		"secrets":                "ok;a b;c:1",
		"objects":                "- secret: x\n  mode: \"999\"\n- secert: y\n",
		"timeout":                "forever",
		volume.KubeletPodName:    "-",
		"certificates":           "*",
		"downloadCACertificates": "maybe",
	})
	const want = `clientId: unknown attribute, did you mean clientID?; ` +
		`csi.storage.k8s.io/pod.name: is missing, the CSIDriver object must have podInfoOnMount: true; ` +
		`timeout: "forever" must be a Go duration above 0 and up to 110s such as "90s"; ` +
		`vault: "http://myvault.vault.azure.net" is not a vault, want https://NAME.vault.azure.net or NAME ` +
		`(3 to 24 letters, digits and single hyphens, a letter first); ` +
		`downloadCACertificates: "maybe" must be true or false; ` +
		`secrets[1]: the name "a b" is not 1 to 127 letters, digits and hyphens; ` +
		`secrets[2]: the version "1" is not 32 hexadecimal digits; ` +
		`certificates[0]: "*" stands for all secrets, in the attribute secrets only, name the certificates; ` +
		`objects[0].mode: "999" must be permission bits in octal such as "0440"; ` +
		`objects[1].secert: unknown field, did you mean secret?; ` +
		`objects[1]: says none of secret, certificate, secrets, key, env, json, properties and manifest`
	for range 20 { // the order of maps is random
		_, err := volume.Parse(attributes, nil, volume.Defaults{})
		checkError(t, err, want)
	}

	_, err := volume.Parse(attributes, nil, volume.Defaults{})
	var problems volume.Problems
	if !errors.As(fmt.Errorf("volume data: %w", err), &problems) {
		t.Fatal("the problems cannot be reached")
	}
	want9 := volume.Problem{Field: "objects[0].mode", Line: 2, Text: `"999" must be permission bits in octal such as "0440"`}
	if diff := cmp.Diff(want9, problems[8]); diff != "" || problems[8].Attribute() != "objects" || problems[0].Attribute() != "clientId" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
}

func TestErrorIsBounded(t *testing.T) {
	t.Parallel()
	list := strings.Repeat("bad name;", 3000)
	_, err := volume.Parse(valid(pairs{"secrets": list}), nil, volume.Defaults{})
	checkInvalid(t, err)
	if n := len(err.Error()); n > 4200 {
		t.Errorf("the text has %d bytes", n)
	}
	if !strings.HasSuffix(err.Error(), " more") {
		t.Errorf("the text does not say how many problems there are: ...%s", err.Error()[len(err.Error())-80:])
	}
	var problems volume.Problems
	if errors.As(err, &problems); len(problems) != 1001 || problems[1000].String() != "volumeAttributes: have 2000 more problems" {
		t.Errorf("%d problems, the last %v", len(problems), problems[len(problems)-1])
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	tooMany := valid()
	for i := range 8200 {
		tooMany[fmt.Sprintf("a%d", i)] = ""
	}
	for name, row := range map[string]struct {
		attributes pairs
		want       string
	}{
		"secrets":      {valid(pairs{"secrets": many(4097, "s%d;")}), "secrets: has more than 4096 entries"},
		"certificates": {valid(pairs{"certificates": many(10000, "s%d;")}), "certificates: has more than 4096 entries"},
		"objects":      {structured(many(4097, "- secret: s%d\n")), "objects: has more than 4096 entries"},
		"marks":        {structured(strings.Repeat("- [a, b, c, d]\n", 11000)), "objects: is too large, at most 4096 entries"},
		"bytes":        {pairs{"secrets": strings.Repeat("x", 256<<10)}, "volumeAttributes: hold 262151 bytes, more than 262144"},
		"count":        {tooMany, "volumeAttributes: are 8209, more than 8192"},
		"fields":       {structured("- {" + many(65, "f%d: x, ") + "}"), "objects[0]: has more than 64 fields"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(row.attributes, nil, volume.Defaults{})
			checkError(t, err, row.want)
		})
	}
	if got := len(mustParse(t, valid(pairs{"secrets": many(4096, "s%d;"), "objects": many(4096, "- secret: s%d\n  path: p/x%[1]d\n")}), nil).Objects); got != 8192 {
		t.Errorf("%d objects, want 8192", got)
	}
}

// sameRequest compares requests without the functions in their selections.
var sameRequest = cmpopts.IgnoreFields(volume.Selection{}, "Each")
