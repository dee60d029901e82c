package daemon_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// After the last volume of an identity its values leave the driver's memory. Freed memory is given back and not overwritten, so pieces
// remain in memory that is used further, such as the buffers of the sixteen connections.
func TestValuesLeaveTheMemory(t *testing.T) {
	t.Parallel()
	const values, size, most = 200, 20_000, 20
	n := node.New(t, node.Options{Flags: []string{"--mount-max-age=5s", "--max-volume-bytes=4Mi"}})
	var secrets strings.Builder
	for i := range values {
		marker := fmt.Sprintf("MARKER-%03d-in-memory~", i)
		n.Vault.SetSecret(fmt.Sprint("s", i), strings.Repeat(marker, size/len(marker)), devcloud.SecretOptions{})
		fmt.Fprintf(&secrets, "s%d;", i)
	}
	v := workload("secrets", secrets.String())
	n.MustPublish(t, v)
	suite.Eventually(t, "the cache has the values", func() bool { return n.MustMetric(t, "keyvault_csi_cache_bytes") >= values*size*9/10 })
	suite.Eventually(t, "the search finds the values", func() bool { return inMemory(t, n.PID(), size/2) >= values*9/10 })
	n.MustUnpublish(t, v)
	suite.Eventually(t, "nothing but what is known about the values is in the cache", func() bool { return n.MustMetric(t, "keyvault_csi_cache_bytes") <= values*1000 })
	var left int
	suite.Eventually(t, "hardly a value is left in memory", func() bool {
		left = inMemory(t, n.PID(), size/2)
		return left <= most
	})
	suite.Verdict(t, "memory: of %d values of a volume that is gone, %d are left in the driver's memory", values, left)
}

// inMemory counts the values with at least half of their bytes in the writable memory of a process, in one piece or several.
func inMemory(t *testing.T, pid, half int) (values int) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("the memory of the driver can be read by root alone: %v", err)
	}
	defer func() { _ = mem.Close() }()
	found := map[string]int{} // bytes
	for line := range strings.Lines(node.ReadFile(t, fmt.Sprintf("/proc/%d/maps", pid))) {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		var content bytes.Buffer
		_, _ = io.Copy(&content, io.NewSectionReader(mem, from, to-from)) // memory that cannot be read has no values
		for _, part := range bytes.Split(content.Bytes(), []byte("MARKER-"))[1:] {
			if len(part) >= 3 && bytes.HasPrefix(part[3:], []byte("-in-memory~")) {
				found[string(part[:3])] += len("MARKER-000-in-memory~")
			}
		}
	}
	for _, size := range found {
		if size >= half {
			values++
		}
	}
	return values
}
