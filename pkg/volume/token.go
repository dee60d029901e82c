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
	claims, ok := tokenClaims(token)
	if !ok {
		p.problem(KubeletTokens, "the token for audience %s is not a JWT", quote(p.defaults.TokenAudience))
	} else {
		p.subject(claims.subject, pod)
	}
	id.Assertion = NewSecret([]byte(token))
	id.Issuer, id.ServiceAccountUID, id.BoundPodUID = claims.issuer, claims.serviceAccountUID, claims.podUID
}

// foreignToken refuses a token of somebody else also where the identity does not need one: a caller that has it is not
// the kubelet of this pod.
func (p *parser) foreignToken(pod Pod) {
	if token, problem := p.token(); problem == "" {
		if claims, ok := tokenClaims(token); ok {
			p.subject(claims.subject, pod)
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

// claims is what a service account token says of itself. All but the subject may be missing.
type claims struct {
	subject, issuer           string
	serviceAccountUID, podUID string
}

// tokenClaims reads the claims of a JWT (RFC 7519) in compact form, unverified. Kubernetes writes its own below
// kubernetes.io (KEP-1205).
func tokenClaims(token string) (c claims, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	for _, part := range parts {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool {
			return !isAlphanumeric(r) && r != '-' && r != '_'
		}) {
			return claims{}, false
		}
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

// members reads a JSON object; nil if it is none. A map, because the names of claims are case-sensitive and those of
// struct fields are not to encoding/json.
func members(object []byte) (all map[string]json.RawMessage) {
	if json.Unmarshal(object, &all) != nil {
		return nil
	}
	return all
}

// text reads a JSON string; empty if it is none.
func text(value []byte) (s string) {
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
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
