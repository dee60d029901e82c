package volume

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

// serviceAccountToken reads the pod's token for the audience of Entra ID and compares its subject with the pod. Entra ID
// checks the signature. The subject is compared here so that a caller other than the kubelet cannot use the token of
// another pod for our caches and the policy. Therefore a token is checked also where the identity does not need one.
func (p *parser) serviceAccountToken(id *Identity, pod Pod) {
	token, problem := p.token()
	var c claims
	if problem == "" {
		var ok bool
		if c, ok = tokenClaims(token); !ok {
			problem = "the token for audience " + quote(p.defaults.TokenAudience) + " is not a JWT"
		}
	}
	known := pod.Namespace != "" && pod.ServiceAccount != "" // the problem is reported otherwise
	switch {
	case problem != "" && id.Kind == Workload:
		p.problem(KubeletTokens, "%s", problem)
	case problem == "" && known && c.subject != "system:serviceaccount:"+pod.Namespace+":"+pod.ServiceAccount:
		p.problem(KubeletTokens, "the token for audience %s is not that of the pod's service account %s",
			quote(p.defaults.TokenAudience), quote(pod.Namespace+"/"+pod.ServiceAccount))
	}
	if id.Kind == Workload {
		id.Assertion = NewSecret([]byte(token))
		id.Issuer, id.ServiceAccountUID, id.BoundPodUID = c.issuer, c.serviceAccountUID, c.podUID
	}
}

// maxTokens bounds the JSON of all tokens. One has about 1.2 KB.
const maxTokens = 256 << 10

// token returns the kubelet's token for Entra ID. The secrets come first, because a user cannot write there: a key of a
// Secret has no slash.
func (p *parser) token() (token, problem string) {
	text, given := p.secrets[KubeletTokens]
	if !given {
		text, given = p.attributes[KubeletTokens]
	}
	var byAudience map[string]struct {
		Token string `json:"token"`
	}
	switch {
	case len(text) > maxTokens:
		return "", "is longer than the kubelet writes it"
	case given && json.Unmarshal([]byte(text), &byAudience) != nil:
		return "", "is not the JSON that the kubelet writes" // the decoder's error may quote a token
	}
	token = byAudience[p.defaults.TokenAudience].Token
	if token == "" {
		return "", "the kubelet sent no token for audience " + quote(p.defaults.TokenAudience) +
			", the CSIDriver object must list it under tokenRequests"
	}
	return token, ""
}

// claims are the claims of a service account token. All but the subject may be missing.
type claims struct {
	subject, issuer           string
	serviceAccountUID, podUID string
}

// tokenClaims reads the claims of a JWT (RFC 7519) in compact form without verifying it. Kubernetes writes its own
// claims below kubernetes.io (KEP-1205).
func tokenClaims(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || slices.Contains(parts, "") ||
		strings.ContainsFunc(token, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-_.", r) }) {
		return claims{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, false
	}
	all := members(payload)
	if json.Unmarshal(all["sub"], &c.subject) != nil {
		return claims{}, false
	}
	kubernetes := members(all["kubernetes.io"])
	c.issuer = text(all["iss"])
	c.serviceAccountUID = text(members(kubernetes["serviceaccount"])["uid"])
	c.podUID = text(members(kubernetes["pod"])["uid"])
	return c, true
}

// members reads a JSON object, or returns nil. It uses a map because encoding/json ignores the case of struct fields,
// and the names of claims are case-sensitive.
func members(object []byte) (all map[string]json.RawMessage) {
	if json.Unmarshal(object, &all) != nil {
		return nil
	}
	return all
}

// text reads a JSON string, or returns nothing.
func text(value []byte) (s string) {
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}
