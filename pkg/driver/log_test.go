package driver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func statsRequest(h *harness) *csi.NodeGetVolumeStatsRequest {
	return &csi.NodeGetVolumeStatsRequest{VolumeId: "csi-1", VolumePath: h.target()}
}

// Secrets of every kind are planted in requests that succeed, fail and panic. None of them may be in the log at the
// highest verbosity, in an answer or in a metric; what may be logged is planted too, so that the search is known to
// look at the right text.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	f := newFakes()
	h := startDriver(t, f, func(c *Config) { c.HTTPAddress = "127.0.0.1:0" })

	token := testToken("planted-assertion")
	planted := []string{
		token, token[strings.LastIndexByte(token, '.')+1:], "planted-client-secret", "planted-password", "planted-user-key", "planted-value",
	}
	request := func() *csi.NodePublishVolumeRequest {
		r := h.request()
		r.VolumeContext["csi.storage.k8s.io/serviceAccount.tokens"] = `{"` + testAudience + `":{"token":"` + token + `"}}`
		r.VolumeContext["csi.storage.k8s.io/unknown"] = "planted-user-key"
		r.Secrets = map[string]string{"other": "planted-password"}
		return r
	}
	principal := func() *csi.NodePublishVolumeRequest {
		r := request()
		r.VolumeContext["identity"] = "servicePrincipal"
		r.Secrets = map[string]string{"clientsecret": "planted-client-secret", "tenantid": "contoso.example"}
		r.PublishContext = map[string]string{"x": "planted-password"}
		return r
	}
	broken := func() *csi.NodePublishVolumeRequest {
		r := principal()
		r.VolumeContext["savePFX"] = "perhaps"
		r.Secrets["clientcertificate"] = "planted-password"
		r.Secrets["csi.storage.k8s.io/serviceAccount.tokens"] = `{"planted-password`
		return r
	}
	var answers strings.Builder
	publish := func(r *csi.NodePublishVolumeRequest) {
		_, err := h.node.NodePublishVolume(t.Context(), r)
		answers.WriteString(status.Convert(err).Message() + "\n")
		f.step(2 * time.Minute)
	}

	content := volume.Content{Files: []volume.File{{Path: "a", Data: volume.NewSecret([]byte("planted-value"))}}}
	for _, fetch := range []func(context.Context, volume.Request) (volume.Content, error){
		func(context.Context, volume.Request) (volume.Content, error) {
			content.Fetched = f.clock()
			return content, nil
		},
		failing(volume.ErrDenied, "planted-control: refused"),
		func(_ context.Context, r volume.Request) (volume.Content, error) { panic(r) },
		func(_ context.Context, r volume.Request) (volume.Content, error) {
			panic(string(r.Identity.Assertion.Reveal()) + string(r.Identity.ClientSecret.Reveal()))
		},
		func(_ context.Context, r volume.Request) (volume.Content, error) {
			panic(errors.New(string(r.Identity.Assertion.Reveal()) + string(r.Identity.ClientSecret.Reveal())))
		},
	} {
		f.fetch = fetch
		for _, r := range []*csi.NodePublishVolumeRequest{request(), principal(), broken()} {
			publish(r) // the second and later ones are republishes, tolerated or not
		}
		if _, err := h.node.NodeUnpublishVolume(t.Context(), h.unpublish()); err != nil {
			t.Fatal(err)
		}
	}

	body := get(t, h.http+"/metrics", http.StatusOK)
	for where, text := range map[string]string{"log": h.log.String(), "answers": answers.String(), "metrics": body} {
		for _, secret := range planted {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in the %s:\n%s", secret, where, text)
			}
		}
	}
	if regexp.MustCompile(`\b0x`).MatchString(h.log.String()) { // a stack may name a file asm_s390x.s
		t.Errorf("the log shows words of the memory:\n%s", h.log.String())
	}
	for where, want := range map[string][]string{
		h.log.String(): {
			"planted-control: refused", `pod="payments/api-0"`, `volumeID="csi-1"`, h.target(), `method="NodePublishVolume"`,
			`code="PermissionDenied"`, "duration=", `"call failed"`, `"call"`, `"panic"`,
		},
		answers.String(): {"planted-control: refused", "savePFX"},
		body:             {`method="NodePublishVolume"`},
	} {
		for _, control := range want {
			if !strings.Contains(where, control) {
				t.Errorf("%q is missing in:\n%s", control, where)
			}
		}
	}
}

func get(t testing.TB, url string, want int) (body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("GET %s = %s %q, want %d", url, resp.Status, b, want)
	}
	return string(b)
}
