package provider_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/testing/protocmp"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/provider"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// pipeline answers each request with the same content, or error.
type pipeline struct {
	content volume.Content
	err     error

	requests  []volume.Request
	forgotten []string
}

func (p *pipeline) Run(ctx context.Context, _, _ map[string]string, parse func() (volume.Request, error), use func(context.Context, volume.Content) error) error {
	request, err := parse()
	if err != nil {
		return err
	}
	p.requests = append(p.requests, request)
	if p.err != nil {
		return p.err
	}
	return use(ctx, p.content)
}

func (p *pipeline) Forget(volume string) { p.forgotten = append(p.forgotten, volume) }

// clock is set by a test.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func newServer(t *testing.T, p *pipeline, change ...func(*provider.Options)) *provider.Server {
	t.Helper()
	o := provider.Options{Version: "v1.2.3", Metrics: prometheus.NewRegistry(), Pipeline: p}
	for _, f := range change {
		f(&o)
	}
	s, err := provider.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	attributes = `{"keyvaultName":"shop","tenantID":"7f0c6a3e-52c1-4a8b-8d0e-9b7c1a2f3e4d","useVMManagedIdentity":"true",` +
		`"objects":"array:\n  - |\n    objectName: plain\n    objectType: secret\n",` +
		`"csi.storage.k8s.io/pod.name":"web-0","csi.storage.k8s.io/pod.namespace":"shop","csi.storage.k8s.io/pod.uid":"u",` +
		`"csi.storage.k8s.io/serviceAccount.name":"web"}`
	target = "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/secrets/mount"
)

func request(change ...func(*v1alpha1.MountRequest)) *v1alpha1.MountRequest {
	r := &v1alpha1.MountRequest{Attributes: attributes, Secrets: "null", TargetPath: target, Permission: "420"}
	for _, f := range change {
		f(r)
	}
	return r
}

func file(path string, mode fs.FileMode, text string) volume.File {
	return volume.File{Path: path, Mode: mode, Data: volume.NewSecret([]byte(text))}
}

// The files have the order of the objects and not that of their paths, and the id of an object is repeated for each of its files.
func TestAnswer(t *testing.T) {
	t.Parallel()
	p := &pipeline{content: volume.Content{
		Files: []volume.File{file("a", 0o644, "1"), file("z", 0o644, "2"), file("z.crt", 0o600, "3"), file("z.key", 0o600, "")},
		Versions: []volume.Version{
			{ID: "secret/z", Version: "22", Paths: []string{"z.crt", "z.key", "z"}},
			{ID: "secret/a", Version: "11", Paths: []string{"a"}},
		},
	}}
	got, err := newServer(t, p).Mount(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.MountResponse{
		ObjectVersion: []*v1alpha1.ObjectVersion{
			{Id: "secret/z", Version: "22"}, {Id: "secret/z", Version: "22"}, {Id: "secret/z", Version: "22"}, {Id: "secret/a", Version: "11"},
		},
		Files: []*v1alpha1.File{
			{Path: "z.crt", Mode: 0o600, Contents: []byte("3")}, {Path: "z.key", Mode: 0o600}, {Path: "z", Mode: 0o644, Contents: []byte("2")},
			{Path: "a", Mode: 0o644, Contents: []byte("1")},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("Mount (-want +got):\n%s", diff)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		daemon   time.Duration
		current  []*v1alpha1.ObjectVersion
		refresh  bool
		interval time.Duration
	}{
		"first":                    {time.Minute, nil, false, time.Minute},
		"poll":                     {time.Minute, []*v1alpha1.ObjectVersion{{Id: "secret/plain", Version: "1"}}, true, time.Minute},
		"our volumes stay forever": {0, nil, false, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pipeline{}
			s := newServer(t, p, func(o *provider.Options) {
				o.Class = providerclass.Options{Defaults: volume.Defaults{RotationInterval: test.daemon}}
			})
			response, err := s.Mount(t.Context(), request(func(r *v1alpha1.MountRequest) { r.CurrentObjectVersion, r.Permission = test.current, "384" }))
			if err != nil {
				t.Fatal(err)
			}
			if len(response.GetFiles()) != 0 || len(response.GetObjectVersion()) != 0 {
				t.Errorf("no content is answered with %v", response)
			}
			r := p.requests[0]
			if r.Refresh != test.refresh || !r.Poll || r.RotationInterval != test.interval || r.Volume != "secrets-store:"+target {
				t.Errorf("refresh %v, poll %v, interval %s, volume %s", r.Refresh, r.Poll, r.RotationInterval, r.Volume)
			}
			if mode := r.Objects[0].Outputs[0].Mode; mode != 0o600 {
				t.Errorf("mode %04o, want that of the call", mode)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	const (
		noAttributes = "the call of Mount: attributes are not a JSON object of strings, as the Secrets Store CSI Driver sends them"
		noSecrets    = "the call of Mount: secrets are not a JSON object of strings, as the Secrets Store CSI Driver sends them"
		noPermission = "the call of Mount: permission is not the mode of a file as a JSON number, from 1 to 511 (octal 0777)"
	)
	type r = v1alpha1.MountRequest
	for name, test := range map[string]struct {
		change func(*v1alpha1.MountRequest)
		text   string
	}{
		"no attributes":           {func(r *r) { r.Attributes = "" }, noAttributes},
		"attributes are a list":   {func(r *r) { r.Attributes = `["MARKER"]` }, noAttributes},
		"an attribute is no text": {func(r *r) { r.Attributes = `{"MARKER":1}` }, noAttributes},
		"attributes end early":    {func(r *r) { r.Attributes = `{"keyvaultName":"MARKER` }, noAttributes},
		"more than attributes":    {func(r *r) { r.Attributes += "MARKER" }, noAttributes},
		"no secrets":              {func(r *r) { r.Secrets = "" }, noSecrets},
		"secrets are a text":      {func(r *r) { r.Secrets = `"MARKER"` }, noSecrets},
		"no permission":           {func(r *r) { r.Permission = "" }, noPermission},
		"permission is null":      {func(r *r) { r.Permission = "null" }, noPermission},
		"permission in octal":     {func(r *r) { r.Permission = "0644" }, noPermission},
		"permission as text":      {func(r *r) { r.Permission = `"420"` }, noPermission},
		"permission 0":            {func(r *r) { r.Permission = "0" }, noPermission},
		"permission below 0":      {func(r *r) { r.Permission = "-1" }, noPermission},
		"setuid":                  {func(r *r) { r.Permission = "2541" }, noPermission},
		"a fraction":              {func(r *r) { r.Permission = "420.5" }, noPermission},
		"no target":               {func(r *r) { r.TargetPath = "" }, "the call of Mount: target_path is missing"},
		"a long target": {
			func(r *r) { r.TargetPath = "/" + strings.Repeat("a", 4095) },
			"the call of Mount: target_path has 4096 bytes, more than the 4095 of a path",
		},
		"a class": {
			func(r *r) {
				r.Attributes = strings.Replace(r.Attributes, `"keyvaultName":"shop"`, `"keyvaultName":"a.b"`, 1)
			},
			`keyvaultName: "a.b" is not the name of a vault, 3 to 24 letters, digits and hyphens`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pipeline{}
			_, err := newServer(t, p).Mount(t.Context(), request(test.change))
			if !errors.Is(err, volume.ErrInvalid) || err.Error() != test.text {
				t.Errorf("got  %v\nwant %s", err, test.text)
			}
			if len(p.requests) != 0 {
				t.Error("the pipeline was asked")
			}
		})
	}
}

// The Secrets Store CSI Driver does not say that a volume is gone.
func TestForget(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1e9, 0)}
	p := &pipeline{}
	s := newServer(t, p, func(o *provider.Options) { o.Now = c.now })
	mount := func(target string, current ...*v1alpha1.ObjectVersion) {
		t.Helper()
		_, err := s.Mount(t.Context(), request(func(r *v1alpha1.MountRequest) { r.TargetPath, r.CurrentObjectVersion = target, current }))
		if !errors.Is(err, p.err) {
			t.Fatal(err)
		}
	}
	after := func(d time.Duration, want ...string) {
		t.Helper()
		c.Time = c.Add(d)
		s.Tidy()
		if slices.Sort(p.forgotten); !slices.Equal(p.forgotten, want) {
			t.Errorf("forgotten %q, want %q", p.forgotten, want)
		}
		p.forgotten = nil
	}
	mount("/a")
	mount("/b")
	after(5 * time.Minute)
	mount("/b", &v1alpha1.ObjectVersion{Id: "secret/plain", Version: "1"})
	after(5*time.Minute-time.Second, []string{}...)
	after(time.Second, "secrets-store:/a")
	after(5*time.Minute, "secrets-store:/b")
	after(time.Hour)

	p.err = volume.Errorf(volume.ErrUnavailable, "down")
	mount("/c", &v1alpha1.ObjectVersion{Id: "secret/plain", Version: "1"})
	after(0) // a poll that fails leaves the volume what it has
	mount("/d")
	after(0, "secrets-store:/d")
}

// From 1.6 on the Secrets Store CSI Driver names no versions when it polls. A failure is repeated if the call before failed with the same
// text, and the log says that it is over. What the files lack is logged when it changes.
func TestPolls(t *testing.T) {
	t.Parallel()
	p, log := &pipeline{}, &strings.Builder{}
	s := newServer(t, p)
	logger := funcr.New(func(_, args string) { fmt.Fprintln(log, args) }, funcr.Options{})
	down, denied := volume.Errorf(volume.ErrUnavailable, "down"), volume.Errorf(volume.ErrDenied, "denied")
	gap, missing, late := volume.Content{Gaps: []string{"web: no issuer"}}, volume.Content{Notes: []string{"no b"}}, volume.Content{Outage: down}
	for i, step := range []struct {
		err      error
		content  volume.Content
		refresh  bool
		repeated bool
		log      string
	}{
		{err: down},
		{err: down, repeated: true},
		{err: denied},
		{log: `"volume of a SecretProviderClass answered"`},
		{refresh: true},
		{err: down, refresh: true},
		{err: down, refresh: true, repeated: true},
		{refresh: true, log: `"volume of a SecretProviderClass answered again"`},
		{content: gap, refresh: true, log: `"volume has an incomplete chain of certificates; many clients do not accept it" "error"=null "reason"="web: no issuer"`},
		{content: gap, refresh: true},
		{content: missing, refresh: true, log: `"volume lacks files" "objects"=1 "reason"="no b"`},
		{content: late, refresh: true, log: `"volume of a SecretProviderClass answered without the vault"`},
		{content: late, refresh: true},
		{refresh: true, log: `"volume of a SecretProviderClass answered again"`},
		{refresh: true},
		{err: down, refresh: true},
	} {
		log.Reset()
		p.err, p.content, p.forgotten = step.err, step.content, nil
		_, err := s.Mount(klog.NewContext(t.Context(), logger), request())
		if !errors.Is(err, step.err) {
			t.Fatalf("call %d: %v, want %v", i, err, step.err)
		}
		if got := s.Answered(request(), err); got != step.repeated {
			t.Errorf("call %d: repeated is %v, want %v", i, got, step.repeated)
		}
		if got := p.requests[i].Refresh; got != step.refresh {
			t.Errorf("call %d: refresh is %v, want %v", i, got, step.refresh)
		}
		if forgotten := len(p.forgotten) > 0; forgotten != (step.err != nil && !step.refresh) {
			t.Errorf("call %d: forgotten is %v", i, forgotten)
		}
		if (step.log == "") != (log.Len() == 0) || !strings.Contains(log.String(), step.log) {
			t.Errorf("call %d logs %q, want %q", i, log, step.log)
		}
	}
}

// Versions of the Secrets Store CSI Driver read the version as a semantic one.
func TestVersion(t *testing.T) {
	t.Parallel()
	for build, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3-rc.1", "v1.2.3-4-gabcdef0-dirty": "1.2.3-4-gabcdef0-dirty",
		"v0.0.0-20261129020120-abcdef012345+dirty": "0.0.0-20261129020120-abcdef012345+dirty",
		"abcdef0": "0.0.0-dev-abcdef0", "0123456-dirty": "0.0.0-dev-0123456-dirty", "(devel)": "0.0.0-dev-devel", "dev": "0.0.0-dev-dev",
		"v1.2": "0.0.0-dev-v1-2", "v1.2.3-01": "0.0.0-dev-v1-2-3-01",
	} {
		s := newServer(t, &pipeline{}, func(o *provider.Options) { o.Version = build })
		got, err := s.Version(t.Context(), &v1alpha1.VersionRequest{Version: "v1alpha1"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&v1alpha1.VersionResponse{Version: "v1alpha1", RuntimeName: "keyvault-csi", RuntimeVersion: want}, got, protocmp.Transform()); diff != "" {
			t.Errorf("build %s (-want +got):\n%s", build, diff)
		}
	}
}

// A request is described by its target and its pod alone.
func TestDescribe(t *testing.T) {
	t.Parallel()
	s := newServer(t, &pipeline{})
	for want, r := range map[string]*v1alpha1.MountRequest{
		"[target " + target + " pod shop/web-0] 4": request(func(r *v1alpha1.MountRequest) { r.Secrets = `{"clientsecret":"MARKER"}` }),
		"[target  pod /] 4":                        {Attributes: `{"csi.storage.k8s.io/pod.name":`, Secrets: "MARKER"},
	} {
		values, level := s.Describe(r)
		if got := fmt.Sprint(values, level); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if values, level := s.Describe(&v1alpha1.VersionRequest{}); values != nil || level != 6 {
		t.Errorf("Version: %v, %d", values, level)
	}
}
