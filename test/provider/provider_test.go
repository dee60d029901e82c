// Package provider_test compares what the daemon answers to the Secrets Store CSI Driver with what the Azure provider 1.8 answers: the
// code, the paths, modes and bytes of the files, and the versions of the objects, all in order. The daemon is a process, its vault is
// a dev cloud, and the test makes the calls of that driver with a client from the project's own .proto.
//
// testdata/recorded has answers of the provider. The tables of classes have its behaviour for values that are made in the run; the
// expected bytes come from the test's own keys and certificates, by the standard library. A class with "instead" is a decided difference:
// what the provider does there is wrong, or possible only in a cluster that it trusts more than this driver does.
package provider_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/keyvault-csi/keyvault-csi/internal/kubelet"
	"github.com/keyvault-csi/keyvault-csi/internal/mountns"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

func TestMain(m *testing.M) { os.Exit(mountns.Main(node.Networked{M: m})) }

// file is a file of an answer with the version of its object, which the provider answers beside each file.
type file struct {
	Path, Mode, Data string
	ID, Version      string
}

// answer is what a call of Mount returns: files, or an error.
type answer struct {
	Code  string
	Text  string // of the error
	Files []file
}

func files(of ...file) answer { return answer{Code: codes.OK.String(), Files: of} }

func refusal(code codes.Code, text string) answer { return answer{Code: code.String(), Text: text} }

// class is a SecretProviderClass and what else the Secrets Store CSI Driver sends.
type class struct {
	name       string
	objects    string            // the parameter, unless parameters has it
	parameters map[string]string // beside the usual ones; an empty value removes one
	secret     map[string]string // of the nodePublishSecretRef
	permission fs.FileMode       // of files without one of their own; 0 means 0644
	pod        kubelet.Volume    // only the fields about the token

	want    answer // of the provider; the zero value: it fails
	instead answer // of this driver, if it differs from want; a refusal always differs
	why     string // why it differs; needed where the provider answers with files
}

// storeDriver makes the calls of the Secrets Store CSI Driver on a node.
type storeDriver struct {
	*node.Node
	provider   v1alpha1.CSIDriverProviderClient
	noMetadata string // why there is no metadata service; empty if there is one
}

// start starts a daemon that serves the Secrets Store CSI Driver.
func start(t *testing.T, o node.Options, flags ...string) *storeDriver {
	t.Helper()
	// Not the test's own temporary folder: a socket's path may have 107 bytes.
	dir, err := os.MkdirTemp("", "kvcsi")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "azure.sock")
	o.Flags = append([]string{"--provider-socket=" + socket}, flags...)
	n := node.New(t, o)
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &storeDriver{Node: n, provider: v1alpha1.NewCSIDriverProviderClient(conn)}
}

// startWithMetadata also starts the metadata service where the machine allows it. It has one address, so that one test at a time can
// have it.
func startWithMetadata(t *testing.T, o node.Options, flags ...string) *storeDriver {
	t.Helper()
	why := node.NoNetwork()
	if why == "" {
		o.Cloud.IMDSListen = node.MetadataAddress + ":80"
	}
	s := start(t, o, flags...)
	s.noMetadata = why
	return s
}

// mount makes the call for a new pod with the class.
func (s *storeDriver) mount(t *testing.T, parameters, secret map[string]string, permission fs.FileMode, pod kubelet.Volume) answer {
	t.Helper()
	pod.Name = fmt.Sprintf("p%x", hash(t.Name()))
	pod.Attributes, pod.Secret = parameters, secret
	request, err := s.Request(t.Context(), pod)
	must(t, err)
	attributes := request.GetVolumeContext()
	delete(attributes, "csi.storage.k8s.io/ephemeral")
	response, err := s.provider.Mount(t.Context(), &v1alpha1.MountRequest{
		Attributes: text(t, attributes), Secrets: text(t, request.GetSecrets()), Permission: text(t, permission), TargetPath: request.GetTargetPath(),
	})
	if err != nil {
		return refusal(status.Code(err), status.Convert(err).Message())
	}
	return answerOf(t, response)
}

func answerOf(t *testing.T, response *v1alpha1.MountResponse) answer {
	t.Helper()
	if response.GetError() != nil || len(response.GetFiles()) != len(response.GetObjectVersion()) {
		t.Fatalf("%d files, %d versions, error %v; each file has a version", len(response.GetFiles()), len(response.GetObjectVersion()), response.GetError())
	}
	got := files()
	for i, f := range response.GetFiles() {
		version := response.GetObjectVersion()[i]
		got.Files = append(got.Files, file{
			f.GetPath(), fmt.Sprintf("%04o", f.GetMode()), string(f.GetContents()), version.GetId(), version.GetVersion(),
		})
	}
	return got
}

// check mounts a class and compares the answer. The usual pod has a workload identity, and its token is among the secrets.
func (s *storeDriver) check(t *testing.T, c class) {
	t.Helper()
	parameters := map[string]string{"keyvaultName": node.VaultName, "tenantID": node.Tenant, "clientID": node.WorkloadID, "objects": c.objects}
	maps.Copy(parameters, c.parameters)
	maps.DeleteFunc(parameters, func(_, value string) bool { return value == "" })
	if c.permission == 0 {
		c.permission = 0o644
	}
	c.pod.Namespace, c.pod.ServiceAccount = node.Namespace, node.ServiceAccount
	compare(t, s.mount(t, parameters, c.secret, c.permission, c.pod), c.want, c.instead, c.why)
}

// compare compares an answer with that of the provider, or with the decided one.
func compare(t *testing.T, got, want, instead answer, why string) {
	t.Helper()
	fails, decided := want.Code == "", instead.Code != ""
	switch {
	case decided && cmp.Equal(want, instead):
		t.Fatal("the decided answer is the provider's")
	case fails && !decided, !fails && decided && why == "":
		t.Fatalf("the class needs an answer of its own, with the reason where the provider has files; it is\n%s", strings.Join(append([]string{got.Code}, got.lines()...), "\n"))
	case decided:
		want = instead
	}
	if !cmp.Equal(want, got) {
		t.Errorf("the answer differs (-want +got):\n%s", cmp.Diff(want.lines(), got.lines()))
	}
}

// lines describe an answer without the content of keys and certificates.
func (a answer) lines() (lines []string) {
	if a.Text != "" {
		lines = append(lines, a.Code, a.Text)
	}
	for _, f := range a.Files {
		data := strconv.Quote(f.Data)
		if len(f.Data) > 64 {
			data = describe(f.Data)
		}
		lines = append(lines, strings.Join([]string{f.Path, f.Mode, f.ID, f.Version, data}, " "))
	}
	return lines
}

// describe names the blocks of a PEM.
func describe(data string) string {
	words := []string{fmt.Sprintf("%d bytes, %x", len(data), hash(data))}
	for rest := []byte(data); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return strings.Join(words, ", ")
		}
		words = append(words, fmt.Sprintf("%s %x", block.Type, hash(string(block.Bytes))))
	}
}

func text(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	must(t, err)
	return string(data)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
