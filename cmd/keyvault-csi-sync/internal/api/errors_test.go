package api

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// OpenShift runs the admission plugin OwnerReferencesPermissionEnforcement, for which the right to patch is not enough.
func TestProtectedOwners(t *testing.T) {
	t.Parallel()
	err := explain("patch", apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "db-login",
		errors.New("cannot set an ownerRef on a resource you can't delete: , <nil>")))
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok || refused.Reason != "Forbidden" || !strings.Contains(err.Error(), "give the Role the verb delete for it") {
		t.Errorf("%v", err)
	}
}

// The same failure of two connections has one text, or it would be logged again for each.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	failure := func(port int) error {
		return &url.Error{Op: "Get", URL: "https://10.96.0.1/api", Err: &net.OpError{
			Op: "read", Net: "tcp", Err: syscall.ECONNRESET,
			Source: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(10, 96, 0, 1), Port: 443},
		}}
	}
	const want = "watch secrets: the API server cannot be reached: read tcp 10.96.0.1:443: connection reset by peer"
	for _, port := range []int{40001, 40002} {
		if err := explain("watch", failure(port)); err.Error() != want || !errors.Is(err, ErrAway) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
