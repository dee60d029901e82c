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
	claims := tokenClaims(token)
	subject, ok := claims["sub"].(string)
	if problem == "" && !ok {
		problem = "the token for audience " + quote(p.defaults.TokenAudience) + " is not a JWT"
	}
	podKnown := pod.Namespace != "" && pod.ServiceAccount != "" // otherwise that is the problem
	switch {
	case problem != "" && id.Kind == Workload:
		p.problem(KubeletTokens, "%s", problem)
	case problem == "" && podKnown && subject != "system:serviceaccount:"+pod.Namespace+":"+pod.ServiceAccount:
		p.problem(KubeletTokens, "the token for audience %s is not that of the pod's service account %s",
			quote(p.defaults.TokenAudience), quote(pod.Namespace+"/"+pod.ServiceAccount))
	}
	if id.Kind == Workload { // Kubernetes has claims of its own below kubernetes.io (KEP-1205)
		id.Assertion = NewSecret([]byte(token))
		id.Issuer = claim(claims, "iss")
		id.ServiceAccountUID = claim(claims, "kubernetes.io", "serviceaccount", "uid")
		id.BoundPodUID = claim(claims, "kubernetes.io", "pod", "uid")
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
			", " + p.csiDriver() + " must list it under tokenRequests"
	}
	return token, ""
}

// tokenClaims reads the claims of a JWT (RFC 7519) in compact form without verifying it. It returns nil if the token is
// not a JWT. A map, because encoding/json ignores the case of struct fields, and claims are case-sensitive.
func tokenClaims(token string) (claims map[string]any) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || slices.Contains(parts, "") ||
		strings.ContainsFunc(token, func(r rune) bool { return !isAlphanumeric(r) && !strings.ContainsRune("-_.", r) }) {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return claims
}

// claim returns the string at a path of JSON members, or nothing if there is none.
func claim(value any, path ...string) string {
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	text, _ := value.(string)
	return text
}
