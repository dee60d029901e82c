package hostile_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

const mountMethod = "/v1alpha1.CSIDriverProvider/Mount"

// The socket of the provider takes messages of the Secrets Store CSI Driver, with parameters that the author of a class chooses. A process
// of root can send any.
func TestProvider(t *testing.T) {
	t.Parallel()
	s := newFixture(t)
	conn, err := grpc.NewClient("unix://"+s.ProviderSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	try := func(name, method string, message []byte, code codes.Code, text string) {
		t.Run(name, func(t *testing.T) {
			ctx := suite.Context(t)
			var answer []byte
			err := conn.Invoke(ctx, method, message, &answer)
			s.check(t, err, code, text)
		})
	}

	type request = v1alpha1.MountRequest
	const (
		noAttributes = "the call of Mount: attributes are not a JSON object of strings, as the Secrets Store CSI Driver sends them"
		noSecrets    = "the call of Mount: secrets are not a JSON object of strings, as the Secrets Store CSI Driver sends them"
		noPermission = "the call of Mount: permission is not the mode of a file as a JSON number, from 1 to 511 (octal 0777)"
	)
	for name, test := range map[string]struct {
		change func(*request)
		code   codes.Code
		text   string
	}{
		"no message":           {func(r *request) { proto.Reset(r) }, codes.InvalidArgument, noAttributes},
		"no JSON":              {func(r *request) { r.Attributes = "\x00" + marker }, codes.InvalidArgument, noAttributes},
		"deep JSON":            {func(r *request) { r.Attributes = strings.Repeat(`{"`+marker+`":`, 20_000) }, codes.InvalidArgument, noAttributes},
		"lists in lists":       {func(r *request) { r.Attributes = strings.Repeat("[", 200_000) }, codes.InvalidArgument, noAttributes},
		"half of it":           {func(r *request) { r.Attributes = r.Attributes[:len(r.Attributes)/2] }, codes.InvalidArgument, noAttributes},
		"twice":                {func(r *request) { r.Attributes += r.Attributes }, codes.InvalidArgument, noAttributes},
		"secrets in a list":    {func(r *request) { r.Secrets = `["` + marker + `"]` }, codes.InvalidArgument, noSecrets},
		"a number as secret":   {func(r *request) { r.Secrets = `{"clientsecret": 4711}` }, codes.InvalidArgument, noSecrets},
		"a huge permission":    {func(r *request) { r.Permission = strings.Repeat("7", 400_000) }, codes.InvalidArgument, noPermission},
		"an endless fraction":  {func(r *request) { r.Permission = "420." + strings.Repeat("0", 100_000) }, codes.InvalidArgument, noPermission},
		"an exponent":          {func(r *request) { r.Permission = "1e999999999" }, codes.InvalidArgument, noPermission},
		"setuid":               {func(r *request) { r.Permission = "2541" }, codes.InvalidArgument, noPermission},
		"a text as permission": {func(r *request) { r.Permission = `"` + marker + `"` }, codes.InvalidArgument, noPermission},
		"no target":            {func(r *request) { r.TargetPath = "" }, codes.InvalidArgument, "the call of Mount: target_path is missing"},
		"a long target": {
			func(r *request) { r.TargetPath = strings.Repeat("/x", 100_000) },
			codes.InvalidArgument, "the call of Mount: target_path has 200000 bytes, more than the 4095 of a path",
		},
		"a target elsewhere": {func(r *request) { r.TargetPath = "/etc/../proc/self/root\n" }, codes.OK, ""},
		"many versions": {
			func(r *request) {
				for range 5_000 {
					r.CurrentObjectVersion = append(r.CurrentObjectVersion, &v1alpha1.ObjectVersion{Id: "x", Version: "y"})
				}
			}, codes.OK, "",
		},
	} {
		r := s.mountRequest(t, nil)
		test.change(r)
		message, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		try(name, mountMethod, message, test.code, test.text)
	}

	for name, test := range map[string]struct {
		parameters map[string]string
		code       codes.Code
		text       string
	}{
		"another pod":         {map[string]string{"csi.storage.k8s.io/pod.namespace": "bank"}, codes.InvalidArgument, "csi.storage.k8s.io/serviceAccount.tokens: the token for audience *"},
		"a pod of many lines": {map[string]string{"csi.storage.k8s.io/pod.name": "a\nE1129 forged"}, codes.InvalidArgument, "csi.storage.k8s.io/pod.name: \"a\\nE1129 forged\" is not a name that the kubelet sends"},
		"a large parameter":   {map[string]string{"unknown": strings.Repeat("x", 300_000)}, codes.InvalidArgument, "parameters: hold 3*"},
		"a YAML bomb":         {map[string]string{"objects": bomb()}, codes.InvalidArgument, "objects[0]: *"},
		"deep YAML":           {map[string]string{"objects": "array: " + strings.Repeat("[", 100_000)}, codes.InvalidArgument, "objects: is too large, at most 4096 entries; *"},
		"a path":              {map[string]string{"objects": entry("objectAlias: ../../etc/shadow")}, codes.InvalidArgument, "objects[0].objectAlias: *"},
		"an absolute path":    {map[string]string{"objects": entry("objectAlias: /etc/shadow")}, codes.InvalidArgument, "objects[0].objectAlias: *"},
		"a vault elsewhere":   {map[string]string{"keyvaultName": "shop.evil.com/x"}, codes.InvalidArgument, "keyvaultName: *"},
		"a long history":      {map[string]string{"objects": entry("objectVersionHistory: 2147483647")}, codes.OK, ""},
		"no history":          {map[string]string{"objects": entry("objectVersionHistory: -2147483648")}, codes.OK, ""},
		"many objects":        {map[string]string{"objects": "array:\n" + strings.Repeat("- \"objectName: good\\nobjectType: secret\"\n", 5_000)}, codes.InvalidArgument, "objects: array has more than 4096 entries; *"},
	} {
		message, err := proto.Marshal(s.mountRequest(t, test.parameters))
		if err != nil {
			t.Fatal(err)
		}
		try(name, mountMethod, message, test.code, test.text)
	}

	const limit = 512 << 10
	try("one byte more than may be", mountMethod, append([]byte{1<<3 | 2, 0xfd, 0xff, 0x1f}, strings.Repeat(marker, limit/len(marker)+1)[:limit-3]...),
		codes.ResourceExhausted, "grpc: received message larger than max (524289 vs. 524288)")
	try("no protobuf", mountMethod, []byte(strings.Repeat("\xff", 1000)), codes.Internal, "grpc: failed to unmarshal the received message: *")
	try("no UTF-8", mountMethod, []byte{1<<3 | 2, 2, 0xff, 0xfe}, codes.Internal, "grpc: failed to unmarshal the received message: *")
	try("groups in groups", mountMethod, []byte(strings.Repeat("\x7b", 100_000)), codes.Internal, "grpc: failed to unmarshal the received message: *")
	try("unknown fields", mountMethod, append([]byte{15<<3 | 2, 100}, strings.Repeat(marker, 10)[:100]...), codes.InvalidArgument, noAttributes)
	try("CSI at this socket", publishMethod, nil, codes.Unimplemented, "unknown service csi.v1.Node")
	s.verdict(t, "calls of the Secrets Store CSI Driver")
}

// mountRequest is a good call with other parameters.
func (s *fixture) mountRequest(t *testing.T, parameters map[string]string) *v1alpha1.MountRequest {
	t.Helper()
	r := s.MustMountRequest(t, node.Class("good", "objects", entry("")))
	var attributes map[string]string
	if err := json.Unmarshal([]byte(r.GetAttributes()), &attributes); err != nil {
		t.Fatal(err)
	}
	maps.Copy(attributes, parameters)
	text, err := json.Marshal(attributes)
	if err != nil {
		t.Fatal(err)
	}
	r.Attributes, r.Secrets = string(text), `{"clientsecret":"`+marker+`"}`
	return r
}

// entry is a list of one object with one more field.
func entry(field string) string {
	return fmt.Sprintf("array:\n- |\n  objectName: good\n  objectType: secret\n  %s\n", field)
}

// bomb is a YAML of nine levels, each of which repeats the one before nine times.
func bomb() string {
	var text strings.Builder
	text.WriteString("a0: &a0 [x]\n")
	for i := range 9 {
		fmt.Fprintf(&text, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	return text.String() + "array: *a9\n"
}
