package daemon_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// objects is the parameter objects of a class with secrets of these names.
func objects(names ...string) string {
	var list strings.Builder
	list.WriteString("array:\n")
	for _, name := range names {
		fmt.Fprintf(&list, "  - |\n    objectName: %s\n    objectType: secret\n", name)
	}
	return list.String()
}

// answered is an answer to Mount: "path mode content" for each file, and "id version" for each version, in their order.
func answered(response *v1alpha1.MountResponse) (files, versions []string) {
	for _, f := range response.GetFiles() {
		files = append(files, fmt.Sprintf("%s %04o %s", f.GetPath(), f.GetMode(), f.GetContents()))
	}
	for _, v := range response.GetObjectVersion() {
		versions = append(versions, v.GetId()+" "+v.GetVersion())
	}
	return files, versions
}

// mounted calls Mount, which must succeed.
func mounted(t *testing.T, n *node.Node, class kubelet.Volume, current ...*v1alpha1.ObjectVersion) *v1alpha1.MountResponse {
	t.Helper()
	response, err := n.Provider(t).Mount(t.Context(), n.MustMountRequest(t, class, current...))
	if err != nil {
		t.Fatalf("mount %s: %v", class.Name, err)
	}
	return response
}

// wantFiles calls Mount, which must answer with these files.
func wantFiles(t *testing.T, n *node.Node, class kubelet.Volume, want ...string) {
	t.Helper()
	if files, _ := answered(mounted(t, n, class)); !slices.Equal(files, want) {
		t.Errorf("%s has the files %q, want %q", class.Name, files, want)
	}
}

// refusedMount calls Mount, which must fail with this code and text.
func refusedMount(t *testing.T, n *node.Node, class kubelet.Volume, code codes.Code, text string) {
	t.Helper()
	response, err := n.Provider(t).Mount(t.Context(), n.MustMountRequest(t, class))
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Errorf("mount %s: %v\n got %s: %s\nwant %s: %s", class.Name, response, status.Code(err), status.Convert(err).Message(), code, text)
	}
}

func TestProviderVersion(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	version, err := n.Provider(t).Version(t.Context(), &v1alpha1.VersionRequest{Version: "v1alpha1"})
	if err != nil {
		t.Fatal(err)
	}
	if version.GetVersion() != "v1alpha1" || version.GetRuntimeName() != "keyvault-csi" || version.GetRuntimeVersion() == "" {
		t.Errorf("Version answers %v", version)
	}
}

// The answer has the files in the order of the objects, each beside the version of its object.
func TestProviderMount(t *testing.T) {
	t.Parallel()
	n := node.New(t, node.Options{Provider: true})
	first := n.Vault.SetSecret("zebra", "stripes", devcloud.SecretOptions{})
	second := n.Vault.SetSecret("ape", "banana", devcloud.SecretOptions{})
	class := node.Class("web", "objects", objects("zebra", "ape"))
	files, versions := answered(mounted(t, n, class))
	if want := []string{"zebra 0644 stripes", "ape 0644 banana"}; !slices.Equal(files, want) {
		t.Errorf("files %q, want %q", files, want)
	}
	if want := []string{"secret/zebra " + first, "secret/ape " + second}; !slices.Equal(versions, want) {
		t.Errorf("versions %q, want %q", versions, want)
	}
}
