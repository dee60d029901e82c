package volume

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// workload finds the pod's token for the audience of Entra ID and compares its subject with the pod. Only the API
// server can sign such a token and only Entra ID can judge the signature; the subject is compared so that a token that
// came another way than from the kubelet cannot make a pod somebody else in our caches and in the policy.
func (p *parser) workload(id *Identity, pod Pod) {
	if _, given := p.attributes[AttributeClientID]; !given {
		p.problem(AttributeClientID, "is missing, identity workload needs it")
	}
	token, problem := p.token()
	if problem != "" {
		p.problem(KubeletTokens, "%s", problem)
		return
	}
	subject, ok := tokenSubject(token)
	if !ok {
		p.problem(KubeletTokens, "the token for audience %s is not a JWT", quote(p.defaults.TokenAudience))
	} else {
		p.subject(subject, pod)
	}
	id.Assertion = NewSecret([]byte(token))
}

// foreignToken refuses a token of somebody else also where the identity does not need one: a caller that has it is not
// the kubelet of this pod.
func (p *parser) foreignToken(pod Pod) {
	if token, problem := p.token(); problem == "" {
		if subject, ok := tokenSubject(token); ok {
			p.subject(subject, pod)
		}
	}
}

// subject compares the claim sub of a token with the pod.
func (p *parser) subject(subject string, pod Pod) {
	if pod.Namespace == "" || pod.ServiceAccount == "" {
		return // already a problem
	}
	if subject != "system:serviceaccount:"+pod.Namespace+":"+pod.ServiceAccount {
		p.problem(KubeletTokens, "the token for audience %s is not that of the pod's service account %s",
			quote(p.defaults.TokenAudience), quote(pod.Namespace+"/"+pod.ServiceAccount))
	}
}

// maxTokens bounds the JSON of all tokens; one has some 1.2 KB.
const maxTokens = 256 << 10

// token reads the kubelet's tokens: those among the secrets, where no user can put any (a key of a Secret has no
// slash), else those of the volume context.
func (p *parser) token() (token, problem string) {
	missing := "the kubelet sent no token for audience " + quote(p.defaults.TokenAudience) +
		", the CSIDriver object must list it under tokenRequests"
	text, given := p.secrets[KubeletTokens]
	if !given {
		text, given = p.attributes[KubeletTokens]
	}
	switch {
	case !given:
		return "", missing
	case len(text) > maxTokens:
		return "", "is longer than the kubelet writes it"
	}
	var byAudience map[string]struct {
		Token string `json:"token"`
	}
	if json.Unmarshal([]byte(text), &byAudience) != nil {
		return "", "is not the JSON that the kubelet writes" // the decoder's error may quote a token
	}
	if token = byAudience[p.defaults.TokenAudience].Token; token == "" {
		return "", missing
	}
	return token, ""
}

// tokenSubject reads the claim sub of a JWT (RFC 7519) in compact form, unverified.
func tokenSubject(token string) (subject string, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	for _, part := range parts {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool {
			return !isAlphanumeric(r) && r != '-' && r != '_'
		}) {
			return "", false
		}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", false
	}
	// A map, because the names of claims are case-sensitive and those of struct fields are not to encoding/json.
	var claims map[string]json.RawMessage
	if json.Unmarshal(payload, &claims) != nil || json.Unmarshal(claims["sub"], &subject) != nil {
		return "", false
	}
	return subject, true
}

// clientCertificate takes PEM as it is and the base64 text of a PFX, white space ignored, as bytes. PKCS#12 is DER: a
// SEQUENCE (0x30) whose length takes more than one byte (0x8?).
func clientCertificate(text string) (bytes []byte, ok bool) {
	if strings.Contains(text, "-----BEGIN ") || isPFX([]byte(text)) {
		return []byte(text), true
	}
	bytes, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	return bytes, err == nil && isPFX(bytes)
}

func isPFX(b []byte) bool { return len(b) > 2 && b[0] == 0x30 && b[1]&0x80 != 0 }
