package volume_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const marker = "planted-value-7c1e"

// traces returns every form in which a printer might print the marker.
func traces() []string {
	b := []byte(marker)
	return []string{
		marker, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		fmt.Sprintf("% x", b), fmt.Sprintf("%v", b), fmt.Sprintf("%#v", b), fmt.Sprintf("%o", b), fmt.Sprintf("%b", b),
		base64.StdEncoding.EncodeToString(b), strings.Trim(fmt.Sprintf("%d", b), "[]"),
	}
}

func checkNoTrace(t *testing.T, what, text string) {
	t.Helper()
	for _, trace := range traces() {
		if strings.Contains(text, trace) {
			t.Errorf("%s gives the secret away: %s", what, text)
		}
	}
}

type hidden struct {
	name   string
	secret volume.Secret // fmt cannot call methods on this one
}

// holders returns a secret in every kind of container.
func holders() map[string]any {
	s := volume.NewSecret([]byte(marker))
	return map[string]any{
		"plain":                s,
		"pointer":              &s,
		"slice":                []volume.Secret{s},
		"slice of pointers":    []*volume.Secret{&s},
		"map":                  map[string]volume.Secret{"a": s},
		"file":                 volume.File{Path: "a", Data: s},
		"pointer to a file":    &volume.File{Path: "a", Data: s},
		"content":              volume.Content{Files: []volume.File{{Path: "a", Data: s}}},
		"request":              volume.Request{Identity: volume.Identity{ClientSecret: s, Assertion: s}},
		"unexported":           hidden{"a", s},
		"pointer to it":        &hidden{"a", s},
		"map of unexported":    map[string]hidden{"a": {"a", s}},
		"unexported interface": struct{ any any }{s},
		"nested":               struct{ a struct{ b []hidden } }{struct{ b []hidden }{[]hidden{{"a", s}}}},
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	var verbs []string
	for _, verb := range "vTtbcdoOqxXUeEfFgGsp" + "jwk!" {
		for _, flags := range []string{"", "+", "#", " ", "0", "-", "+#", "20", ".3", "# "} {
			verbs = append(verbs, "%"+flags+string(verb))
		}
	}
	for name, holder := range holders() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range verbs {
				checkNoTrace(t, verb, fmt.Sprintf(verb, holder))
			}
			checkNoTrace(t, "Sprint", fmt.Sprint(holder))
			checkNoTrace(t, "Sprintln", fmt.Sprintln(holder))
			checkNoTrace(t, "Errorf", fmt.Errorf("it: %w", fmt.Errorf("%v", holder)).Error())

			var b bytes.Buffer
			log.New(&b, "", 0).Print(holder)
			slog.New(slog.NewTextHandler(&b, nil)).Info("it", "holder", holder, slog.Any("group", slog.GroupValue(slog.Any("a", holder))))
			slog.New(slog.NewJSONHandler(&b, nil)).Info("it", "holder", holder)
			logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Verbosity(10), textlogger.Output(&b)))
			logger.Info("it", "holder", holder)
			logger.Error(errors.New("it"), "it", "holder", klog.Format(holder))
			if text, err := json.Marshal(holder); err == nil {
				b.Write(text)
			}
			if text, err := xml.Marshal(holder); err == nil {
				b.Write(text)
			}
			if text, err := yaml.Marshal(holder); err == nil {
				b.Write(text)
			}
			checkNoTrace(t, "a log or an encoder", b.String())
		})
	}
}

// The search must find an unprotected marker.
func TestTracesFindAPrintedValue(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		fmt.Sprintf("%s", struct{ b []byte }{[]byte(marker)}), fmt.Sprintf("%x", []byte(marker)), fmt.Sprintf("%v", []byte(marker)),
		fmt.Sprintf("%#v", []byte(marker)),
	} {
		found := false
		for _, trace := range traces() {
			found = found || strings.Contains(text, trace)
		}
		if !found {
			t.Errorf("no trace is in %s", text)
		}
	}
}

func TestSecretTexts(t *testing.T) {
	t.Parallel()
	s := volume.NewSecret([]byte(marker))
	text, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": volume.Secret{}})
	if want := `{"a":"[redacted]","b":"[redacted]","c":"[redacted]"}`; err != nil || string(text) != want {
		t.Errorf("JSON %s, %v; want %s", text, err, want)
	}
	for _, got := range []string{
		s.String(), fmt.Sprint(s), fmt.Sprintf("%#v", s), fmt.Sprintf("%x", &s), s.LogValue().String(), fmt.Sprint(s.MarshalLog()),
		fmt.Sprint(volume.Secret{}),
	} {
		if got != "[redacted]" {
			t.Errorf("%q", got)
		}
	}
	if diff := cmp.Diff(volume.File{Data: s}, volume.File{Data: volume.NewSecret([]byte("other"))}); diff == "" {
		t.Error("two values are the same")
	} else {
		checkNoTrace(t, "cmp.Diff", diff)
	}
}

func TestSecretReveal(t *testing.T) {
	t.Parallel()
	s := volume.NewSecret([]byte(marker))
	if string(s.Reveal()) != marker || s.IsEmpty() || !s.Equal(volume.NewSecret([]byte(marker))) {
		t.Error("the bytes are lost")
	}
	if zero := (volume.Secret{}); zero.Reveal() != nil || !zero.IsEmpty() || !zero.Equal(volume.NewSecret(nil)) || zero.Equal(s) {
		t.Error("the zero value is not empty")
	}
}

func TestErrorf(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("outer: %w", volume.Errorf(volume.ErrNotFound, "vault %s: %w", "v", io.ErrUnexpectedEOF))
	if err.Error() != "outer: vault v: unexpected EOF" || !errors.Is(err, volume.ErrNotFound) ||
		!errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, volume.ErrInvalid) {
		t.Errorf("%v", err)
	}
}
