package keyvault_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// A set says when its certificates end: one file of each, the soonest first, and at most ten.
func TestExpiries(t *testing.T) {
	t.Parallel()
	w := newFixture(t)
	w.vault.SetSecret("plain", "planted", devcloud.SecretOptions{})
	w.vault.SetSecret("password", "planted", devcloud.SecretOptions{})
	certificate := func(name string, days int) time.Time {
		t.Helper()
		made, err := w.vault.SetCertificate(name, devcloud.CertificateOptions{KeyType: devcloud.P256, NotAfter: w.began.Add(time.Duration(days) * 24 * time.Hour)})
		w.must(err)
		return made.Leaf.NotAfter
	}
	web, api := certificate("web", 20), certificate("api", 10)
	var many []volume.Object
	var soonest []volume.Expiry
	for i := range volume.MaxExpiries + 2 {
		name := fmt.Sprintf("many-%02d", i)
		ends := certificate(name, 30+i)
		o := only(allParts(name), volume.PartCert)
		o.Outputs[0].Path = name + ".crt"
		many = append([]volume.Object{o}, many...)
		if i < volume.MaxExpiries {
			soonest = append(soonest, volume.Expiry{File: name + ".crt", NotAfter: ends})
		}
	}
	public := only(allParts("web"), volume.PartLeaf76)
	public.Kind = volume.KindPublicCertificate
	split := secret("web")
	split.Split = []volume.Output{{Part: volume.PartChain, Path: "certs/web"}, {Part: volume.PartKey, Path: "keys/web"}}
	entry := only(allParts("web"), volume.PartCA, volume.PartKey)
	for name, tc := range map[string]struct {
		objects []volume.Object
		want    []volume.Expiry
	}{
		"no certificate":          {[]volume.Object{secret("plain")}, nil},
		"a secret that has one":   {[]volume.Object{split}, []volume.Expiry{{File: "certs/web", NotAfter: web}}},
		"PEM before PKCS#12":      {[]volume.Object{only(allParts("web"), volume.PartPFX, volume.PartKey, volume.PartPEM)}, []volume.Expiry{{File: "pem", NotAfter: web}}},
		"PKCS#12 if there is all": {[]volume.Object{only(allParts("web"), volume.PartPFX)}, []volume.Expiry{{File: "pfx", NotAfter: web}}},
		"PKCS#12 with a password": {[]volume.Object{protected("web", "password")}, []volume.Expiry{{File: "web.p12", NotAfter: web}}},
		"public":                  {[]volume.Object{public}, []volume.Expiry{{File: "leaf76", NotAfter: web}}},
		"CAs and key alone":       {[]volume.Object{entry}, nil},
		"the soonest first": {
			[]volume.Object{split, only(allParts("api"), volume.PartChain)},
			[]volume.Expiry{{File: "chain", NotAfter: api}, {File: "certs/web", NotAfter: web}},
		},
		"not more than ten": {many, soonest},
	} {
		content, err := w.client.Fetch(t.Context(), w.asServicePrincipal(tc.objects...))
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(tc.want, content.Expiries); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
