package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The errors that need their own treatment.
var (
	// ErrAway is the API server that cannot be reached, or is overloaded. It is the same for all Secrets.
	ErrAway = errors.New("the API server does not answer")
	// ErrChanged is a Secret that has changed since it was read.
	ErrChanged = errors.New("the Secret has changed meanwhile")
)

// ConflictError is a field that somebody else has written.
type ConflictError struct {
	Fields []string // such as `.data.password of "kubectl-edit"`
}

func (e *ConflictError) Error() string {
	return "somebody else has written " + strings.Join(e.Fields, ", ")
}

// RefusedError is a request that the API server has refused.
type RefusedError struct {
	Reason string // one word, for an event
	text   string
}

func (e *RefusedError) Error() string { return e.text }

// awayError is ErrAway with what is known about it.
type awayError struct {
	text  string
	after time.Duration
}

func (e *awayError) Error() string        { return e.text }
func (e *awayError) Is(target error) bool { return target == ErrAway }

// RetryAfter returns how long the API server wants to be left alone, or 0.
func RetryAfter(err error) time.Duration {
	if away, ok := errors.AsType[*awayError](err); ok {
		return away.after
	}
	return 0
}

func errNoJSON(verb string) error {
	return &awayError{text: fmt.Sprintf("%s secrets: the answer is not that of an API server", verb)}
}

// isMissing reports whether the Secret is missing, and not its namespace.
func isMissing(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Reason == v1.StatusReasonNotFound &&
		(status.Status().Details == nil || status.Status().Details.Kind != "namespaces")
}

// admission finds in the message of an admission plugin its name, which is not made from the object.
var admission = regexp.MustCompile(`ValidatingAdmissionPolicy '([a-zA-Z0-9.-]+)' with|admission webhook "([a-zA-Z0-9.-]+)" denied`)

// explain replaces an error of the client by one of this package.
func explain(verb string, err error) error {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status):
		return unreachable(verb, "secrets", err)
	}
	s := status.Status()
	message := s.Message
	switch {
	case s.Code >= http.StatusInternalServerError || s.Code == http.StatusTooManyRequests:
		seconds, _ := apierrors.SuggestsClientDelay(err)
		return &awayError{text: fmt.Sprintf("%s secrets: the API server answers %d", verb, s.Code), after: time.Duration(seconds) * time.Second}
	case s.Code == http.StatusUnauthorized:
		return &awayError{text: fmt.Sprintf("%s secrets: the API server does not accept the token of the service account", verb)}
	case s.Code == http.StatusGone:
		return ErrExpired
	case s.Code == http.StatusConflict:
		return conflict(s)
	case strings.Contains(message, "exceeded quota"):
		return refused("QuotaExceeded", "the quota of the namespace allows no more Secrets; raise it, or remove one")
	case apierrors.HasStatusCause(err, "NamespaceTerminating"), s.Reason == v1.StatusReasonNotFound:
		return refused("NamespaceGone", "the namespace is deleted or being deleted")
	case admission.MatchString(message):
		found := admission.FindStringSubmatch(message)
		return refused("AdmissionDenied", "the admission policy or webhook %q denies it; its own log says why", found[1]+found[2])
	case s.Code == http.StatusForbidden && strings.Contains(message, "cannot set an ownerRef on a resource you can't delete"):
		return refused("Forbidden", "only who may delete it may remove its owners in this cluster, as on OpenShift; give the Role the verb delete for it")
	case s.Code == http.StatusForbidden:
		return refused("Forbidden", "the service account may not %s it; name it in the resourceNames of the Role", verb)
	case s.Code == http.StatusUnprocessableEntity:
		return refused("Invalid", "the API server does not accept it%s", invalidFields(s))
	}
	return refused("Refused", "%s secrets: the API server answers %d %s", verb, s.Code, s.Reason)
}

// conflict distinguishes a field that somebody else has written from a Secret that has changed.
func conflict(s v1.Status) error {
	var e ConflictError
	if s.Details != nil {
		for _, cause := range s.Details.Causes {
			if cause.Type == v1.CauseTypeFieldManagerConflict {
				// The message is `conflict with "MANAGER" …`; field and manager are no values.
				_, manager, _ := strings.Cut(cause.Message, `"`)
				manager, _, _ = strings.Cut(manager, `"`)
				e.Fields = append(e.Fields, fmt.Sprintf("%s of %q", cause.Field, manager))
			}
		}
	}
	if len(e.Fields) == 0 {
		return ErrChanged
	}
	slices.Sort(e.Fields)
	return &e
}

// invalidFields lists the fields that are not valid. The messages are left out: they quote what is in the fields.
func invalidFields(s v1.Status) string {
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return ""
	}
	var names []string
	for _, cause := range s.Details.Causes {
		names = append(names, cause.Field)
	}
	slices.Sort(names)
	return ": " + strings.Join(slices.Compact(names), ", ")
}

func refused(reason, format string, args ...any) error {
	return &RefusedError{Reason: reason, text: fmt.Sprintf(format, args...)}
}

// unreachable returns the error of a request without an answer. It leaves out the address, which the person who reads the log knows, and the
// port of this end, which differs each time: equal failures have equal texts, and are logged once.
func unreachable(verb, resource string, err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		withoutSource := *failed
		withoutSource.Source = nil
		err = &withoutSource
	}
	return &awayError{text: fmt.Sprintf("%s %s: the API server cannot be reached: %v", verb, resource, err)}
}
