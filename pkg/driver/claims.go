package driver

import (
	"sync"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// claims are the targets that a call is working on. The kubelet does not start two calls for one target, but a retry
// can overlap a call that it has given up waiting for. The zero value is ready.
type claims struct {
	held sync.Map // cleaned target -> struct{}
}

// take claims the target, which must be a cleaned path, or says that another call has it.
func (c *claims) take(target string) (release func(), err error) {
	if _, taken := c.held.LoadOrStore(target, struct{}{}); taken {
		return nil, volume.Errorf(errBusy, "a call for %s runs already", target)
	}
	return func() { c.held.Delete(target) }, nil
}
