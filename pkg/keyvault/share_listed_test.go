package keyvault_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// smallListed is a small vault whose secrets are listed, 25 on a page.
type smallListed struct {
	*smallVault
	objects int
	changed atomic.Int64 // when same-0 was changed, in seconds since 1970
}

func (v *smallListed) attributes(i int) string {
	updated := int64(1)
	if i == 0 {
		updated = max(updated, v.changed.Load())
	}
	return fmt.Sprintf(`"attributes":{"enabled":true,"created":1,"updated":%d}`, updated)
}

func (v *smallListed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := v.smallVault.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	name, _ := strings.CutPrefix(strings.Trim(req.URL.Path, "/"), "secrets/same-")
	i, _ := strconv.Atoi(name)
	text := strings.TrimSuffix(string(body), "}") + "," + v.attributes(i) + "}"
	if req.URL.Path == "/secrets" {
		text = v.page(req.URL.Query().Get("first"))
	}
	resp = suite.Response(req, http.StatusOK, text, "Content-Type", "application/json")
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	return resp, nil
}

func (v *smallListed) page(from string) string {
	first, _ := strconv.Atoi(from)
	next := "null"
	if first+25 < v.objects {
		next = fmt.Sprintf(`"https://shop.vault.azure.net:443/secrets?api-version=7.4&first=%d"`, first+25)
	}
	var items []string
	for i := first; i < min(first+25, v.objects); i++ {
		items = append(items, fmt.Sprintf(`{"id":"https://shop.vault.azure.net/secrets/same-%d",%s}`, i, v.attributes(i)))
	}
	return `{"value":[` + strings.Join(items, ",") + `],"nextLink":` + next + `}`
}

// A list at a vault that throttles shows that all objects are current, also those whose turn to be read has not come, and also if it
// ends after its refresh. So a share that is enough for lists keeps the volume young, and leaves the rest to others.
func TestListsAtAVaultThatThrottles(t *testing.T) {
	t.Parallel()
	for _, others := range []int{20, 200} { // objects of another volume, which does not list
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { listAtAVaultThatThrottles(t, others) })
		})
	}
}

func listAtAVaultThatThrottles(t *testing.T, others int) {
	const interval = 2 * time.Minute
	vault := &smallListed{smallVault: &smallVault{allowed: 1000, value: "old"}, objects: 100}
	client := limitedClient(t, vault)
	fetch := volumeOf(t, client, "1", "same", vault.objects, "", interval, volume.DetectByListing)
	other := volumeOf(t, client, "2", "other", others, "", interval)
	mountLimited(t, fetch)
	mountLimited(t, other)
	vault.mu.Lock()
	vault.allowed = 5
	vault.mu.Unlock()
	var changed time.Time
	for i := range 40 {
		<-time.After(75 * time.Second)
		content, err := fetch(true)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := other(true); others == 20 && (err != nil || time.Since(content.Fetched) > 3*interval) { // the share is too small for 200
			t.Errorf("refresh %d: the oldest object of the other volume is %v old: %v", i, time.Since(content.Fetched), err)
		}
		if age := time.Since(content.Fetched); age > 2*interval {
			t.Errorf("refresh %d: the oldest object is %v old", i, age)
		}
		if value := string(content.Files[0].Data.Reveal()); value == "old" && !changed.IsZero() && time.Since(changed) > 3*interval {
			t.Errorf("refresh %d: %s has its old value %v after the change", i, content.Files[0].Path, time.Since(changed))
		}
		if i == 20 {
			changed = time.Now()
			vault.changed.Store(changed.Unix())
			vault.mu.Lock()
			vault.value = "new"
			vault.mu.Unlock()
		}
	}
}
