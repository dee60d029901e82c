package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	contentvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// problems collects what is wrong.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p problems) err() error { return errors.Join(p...) }

func (p *problems) checkSecret(at string, s Secret) {
	if texts := validation.NameIsDNSSubdomain(s.Name, false); len(texts) > 0 {
		p.addf("%s.name: %q is not a name of a Secret: %s", at, s.Name, texts[0])
	}
	if !slices.Contains(Types(), s.Type) {
		p.addf("%s.type: %q is not one of %s", at, s.Type, strings.Join(Types(), ", "))
	}
	p.checkMarks(at+".labels", s.Labels)
	p.checkMarks(at+".annotations", s.Annotations)
	// The texts of these checks hold labels and annotations, which are no secrets.
	for _, problem := range metavalidation.ValidateLabels(s.Labels, field.NewPath(at+".labels")) {
		p.addf("%v", problem)
	}
	for _, problem := range validation.ValidateAnnotations(s.Annotations, field.NewPath(at+".annotations")) {
		p.addf("%v", problem)
	}
	if len(s.Data) == 0 {
		p.addf("%s.data: is empty; write {KEY: PATH OF A FILE}", at)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Data)) {
		p.checkData(at+".data["+key+"]", key, s.Data[key])
	}
	if missing := missingKeys(s); missing != "" {
		p.addf("%s.data: a Secret of type %s needs %s", at, s.Type, missing)
	}
}

func (p *problems) checkMarks(at string, marks map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		if strings.HasPrefix(key, MarkPrefix) {
			p.addf("%s[%s]: keyvault-csi-sync sets the marks below %s itself; remove it", at, key, MarkPrefix)
		}
	}
}

func (p *problems) checkData(at, key, path string) {
	if texts := contentvalidation.IsConfigMapKey(key); len(texts) > 0 {
		p.addf("%s: is not a key of a Secret: %s", at, texts[0])
	}
	switch {
	case path == "":
		p.addf("%s: has no path; write the path of a file in the volume", at)
	case !fs.ValidPath(path) || path == "." || strings.HasPrefix(path, "..") || strings.Contains(path, "/..") || strings.Contains(path, "\x00"):
		p.addf("%s: %q is not the path of a file in the volume; write it relative to the volume, without ..", at, path)
	}
}

// Types are the types that a Secret can have.
func Types() []string { return []string{Opaque, TLS, DockerConfigJSON, BasicAuth, SSHAuth} }

// missingKeys returns the keys without which Kubernetes refuses a Secret of the type.
func missingKeys(s Secret) string {
	has := func(key string) bool { _, ok := s.Data[key]; return ok }
	switch {
	case s.Type == TLS && !(has("tls.crt") && has("tls.key")):
		return "the keys tls.crt and tls.key"
	case s.Type == DockerConfigJSON && !has(".dockerconfigjson"):
		return "the key .dockerconfigjson"
	case s.Type == BasicAuth && !has("username") && !has("password"):
		return "the key username or password"
	case s.Type == SSHAuth && !has("ssh-privatekey"):
		return "the key ssh-privatekey"
	}
	return ""
}
