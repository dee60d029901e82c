package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/internal/suite"
	"github.com/keyvault-csi/keyvault-csi/pkg/envfile"
)

// replace makes the files the current set of a volume, as the kubelet and the driver do, and removes the set before.
func replace(t *testing.T, volume, name string, content map[string]string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	for path, text := range content {
		path = filepath.Join(volume, name, path)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte(text), 0o600))
	}
	before, _ := os.Readlink(filepath.Join(volume, dataLink))
	must(os.Symlink(name, filepath.Join(volume, "..data_tmp")))
	must(os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, dataLink)))
	if before != "" {
		must(os.RemoveAll(filepath.Join(volume, before)))
	}
}

// TestReadIsNeverTorn reads while another goroutine replaces the volume without a pause.
func TestReadIsNeverTorn(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	content := func(i int) map[string]string {
		value := strconv.Itoa(i)
		return map[string]string{
			"a.env":      "A='" + value + "'\n",
			"deep/b.env": "#" + strings.Repeat("x", 1000) + "\nB='" + value + "'\nC='\n" + value + "'\n",
		}
	}
	replace(t, volume, "..0", content(0))
	all, err := locate([]string{filepath.Join(volume, "a.env"), filepath.Join(volume, "deep/b.env")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 1; ctx.Err() == nil; i++ {
			replace(t, volume, ".."+strconv.Itoa(i), content(i))
		}
	}()
	read, seen := 0, map[string]bool{}
	suite.Eventually(t, "enough sets", func() bool {
		found, err := all.read()
		if err != nil {
			if !strings.HasSuffix(err.Error(), errReplaced.Error()) {
				t.Fatal(err)
			}
			return false
		}
		read++
		value := found.variables[0].Value
		seen[value] = true
		want := []envfile.Variable{{Name: "A", Value: value}, {Name: "B", Value: value}, {Name: "C", Value: "\n" + value}}
		if diff := cmp.Diff(want, found.variables); diff != "" {
			t.Fatalf("torn (-want +got)\n%s", diff)
		}
		return len(seen) >= suite.Rounds(100, 20_000)
	})
	stop()
	<-ended
	suite.Verdict(t, "kvrun: %d sets of a volume that was replaced without a pause, %d of them different, none torn", read, len(seen))
}

func TestDigest(t *testing.T) {
	t.Parallel()
	volume, other := t.TempDir(), t.TempDir()
	before := map[string]string{"app.env": "A='1'\n", "tls/web.crt": "one", "tls/web.key": "two"}
	replace(t, volume, "..1", before)
	replace(t, other, "..1", map[string]string{"b.env": ""})
	all, err := locate([]string{filepath.Join(volume, "app.env"), filepath.Join(other, "b.env")})
	if err != nil {
		t.Fatal(err)
	}
	first, err := all.read()
	if err != nil {
		t.Fatal(err)
	}
	number := 1
	for _, test := range []struct {
		name    string
		content map[string]string
		changed bool
	}{
		{"equal", before, false},
		{"variable", map[string]string{"app.env": "A='2'\n", "tls/web.crt": "one", "tls/web.key": "two"}, true},
		{"another file", map[string]string{"app.env": "A='1'\n", "tls/web.crt": "one", "tls/web.key": "three"}, true},
		{"bytes at another place", map[string]string{"app.env": "A='1'\n", "tls/web.crt": "onetwo", "tls/web.key": ""}, true},
		{"more", map[string]string{"app.env": "A='1'\n", "tls/web.crt": "one", "tls/web.key": "two", "x": ""}, true},
		{"fewer", map[string]string{"app.env": "A='1'\n", "tls/web.crt": "one"}, true},
		{"another name", map[string]string{"app.env": "A='1'\n", "tls/web.crt": "one", "tls/www.key": "two"}, true},
		{"equal again", before, false},
	} {
		number++
		replace(t, volume, ".."+strconv.Itoa(number), test.content)
		next, err := all.read()
		if err != nil {
			t.Fatal(err)
		}
		if changed := next.digest != first.digest; changed != test.changed {
			t.Errorf("%s: changed is %v", test.name, changed)
		}
	}
	replace(t, other, "..2", map[string]string{"b.env": "B='1'"})
	if next, err := all.read(); err != nil || next.digest == first.digest {
		t.Errorf("a change of the second volume was not seen; %v", err)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	replace(t, top, "..1", map[string]string{"app.env": ""})
	inner := filepath.Join(top, "mounted")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	replace(t, inner, "..1", map[string]string{"deep/app.env": ""})
	plain := t.TempDir()
	for _, test := range []struct{ path, volume, name string }{
		{top + "/app.env", top, "app.env"},
		{top + "/..data/app.env", top, "app.env"},
		{top + "/not/there.env", top, "not/there.env"},
		{inner + "/deep//app.env", inner, "deep/app.env"}, // the nearest
		{plain + "/app.env", "", plain + "/app.env"},
	} {
		all, err := locate([]string{test.path})
		if err != nil {
			t.Fatal(err)
		}
		want := files{{path: test.path, volume: test.volume, name: test.name}}
		if diff := cmp.Diff(want, all, cmp.AllowUnexported(file{})); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	got := environment([]string{"HOME=/", "A=own", "B=own", "=odd"}, []envfile.Variable{
		{Name: "Z", Value: "1"}, {Name: "A", Value: "first"}, {Name: "C", Value: ""}, {Name: "A", Value: "a=b\n"},
	})
	want := []string{"HOME=/", "B=own", "=odd", "A=a=b\n", "C=", "Z=1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
