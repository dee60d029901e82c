package manifests_test

import (
	"os"
	"regexp"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// The images of make image, of a release and of the end-to-end tests run as the same users. The charts name none for keyvault-csi-sync and only
// say that it is not root, which Kubernetes can check if the user is a number.
func TestUsersOfTheImages(t *testing.T) {
	t.Parallel()
	want := map[string]string{"keyvault-csi-driver": "0:0", "kvrun": "65532:65532", "keyvault-csi-sync": "65534:65534"}
	for file, pattern := range map[string]string{
		"Dockerfile":        `(?s)image\.title="([a-z-]+)".*?\nUSER (\S+)`,
		"tools/release/run": `(?m)^([a-z-]+) (\d+:\d+) `,
		"test/e2e/images":   `(?m)^image ([a-z-]+) (\d+:\d+) `,
	} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			got[match[1]] = match[2]
		}
		delete(got, "keyvault-csi-e2e") // of the tests only
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}
