package provider_test

import (
	"crypto/x509"
	"encoding/base64"
	"testing"

	"google.golang.org/grpc/codes"
	"software.sslmate.com/src/go-pkcs12"
)

// decision is the answer of this driver to a recorded call where that of the provider is not copied.
type decision struct {
	answer answer
	why    string // where the provider answers with files
}

// asMany is why a history has no more versions than it asks for.
const asMany = "objectVersionHistory is the number of versions, as its documentation says; the provider answers with one more"

// decidedDifferences returns every recorded call with another answer than the provider's. Where the provider fails, a refusal is only
// an earlier or a better one.
func decidedDifferences(t *testing.T) map[string]decision {
	t.Helper()
	const (
		plainVersion = "fedcba9876543210fedcba9876543210"
		first        = "9f85f94e4c752e3f063625123797cfc9"
		second       = "f676ba024c19b91041089ac29fd947a9"
		third        = "1f821fc0c38c15499d52ead60760a437"
		fourth       = "9874eb1b24e0c43a2bf3623bb59e00a8"
	)
	history := func(folder string) answer {
		return files(
			file{folder + "/0", "0644", "version four", "secret/versioned/0", fourth},
			file{folder + "/1", "0644", "version three", "secret/versioned/1", third},
			file{folder + "/2", "0644", "version two", "secret/versioned/2", second},
		)
	}
	const (
		noMode  = "nobody but root can read mode 0000, which the provider answers with for a text that it cannot read"
		vault   = " of https://golden.vault.azure.net"
		service = vault + " as servicePrincipal " + recordedClient
	)
	decided := map[string]decision{
		"objectVersionHistory: 3 of 4":                      {history("versioned"), asMany},
		"objectVersionHistory: 3 with an alias in a folder": {history("v/s"), asMany},
		"filePermission: 0o600":                             {invalid(`objects[0].filePermission: "0o600" must be permission bits in octal such as "0440"`), noMode},
		"filePermission: 0888":                              {invalid(`objects[0].filePermission: "0888" must be permission bits in octal such as "0440"`), noMode},
		"filePermission: abc":                               {invalid(`objects[0].filePermission: "abc" must be permission bits in octal such as "0440"`), noMode},
	}
	for name, answer := range map[string]answer{
		// The provider fails for what is wanted.
		"objectVersion: latest":              files(file{"versioned", "0644", "version four", "secret/versioned", fourth}),
		"secret behind a certificate: AES":   modernAnswer(t),
		"objectFormat: pem of AES":           modernAnswer(t),
		"useVMManagedIdentity: by client id": files(file{"plain", "0644", "hunter2", "secret/plain", plainVersion}),

		"objectAlias: with two dots":                invalid(`objects[0].objectAlias: "../x" contains ".."`),
		"objectEncoding: utf-16":                    invalid(`objects[0].objectEncoding: "utf-16" is none of utf-8, base64 and hex`),
		"objectEncoding: base64 of a cert":          invalid("objects[0].objectEncoding: is for secrets only"),
		"objectFormat: jks":                         invalid(`objects[0].objectFormat: "jks" is neither pem nor pfx`),
		"objectType: password":                      invalid(`objects[0].objectType: "password" is none of secret, key and cert`),
		"objectType: empty":                         invalid(`objects[0].objectType: "" is none of secret, key and cert`),
		"objectType: missing":                       invalid(`objects[0].objectType: "" is none of secret, key and cert`),
		"objects: missing":                          invalid("objects: is missing or empty"),
		"objects: empty":                            invalid("objects: is missing or empty"),
		"objects: a list":                           invalid("objects: is not a mapping, or has a key twice; it must be a mapping with the key array, and in it one text for each object"),
		"objects: mappings and not texts":           invalid(`objects[0]: is a mapping; the provider reads each entry as a text, write it after "- |"`),
		"tenantID: missing":                         invalid("tenantID: is missing, the Entra ID tenant of the vault"),
		"keyvaultName: missing":                     invalid("keyvaultName: is missing"),
		"keyvaultName: misspelt":                    invalid(`keyvaultName: is missing; "keyVaultName" is not read, did you mean keyvaultName?`),
		"keyvaultName: with a dot":                  invalid(`keyvaultName: "golden.evil" is not the name of a vault, 3 to 24 letters, digits and hyphens`),
		"keyvaultName: of two letters":              invalid(`keyvaultName: "ab" is not the name of a vault, 3 to 24 letters, digits and hyphens`),
		"cloudName: Mars":                           invalid(`cloudName: "Mars" is not a cloud of this driver, AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud, AzureStackCloud`),
		"usePodIdentity: true":                      invalid("usePodIdentity: is not supported, AAD Pod Identity is archived; write the client id of the identity as clientID, and give the identity a federated credential for the pod's service account"),
		"usePodIdentity: yes":                       invalid(`usePodIdentity: "yes" is neither true nor false`),
		"useVMManagedIdentity: with usePodIdentity": invalid("useVMManagedIdentity: only one of usePodIdentity, useVMManagedIdentity and useAzureTokenProxy can be true"),
		"Secret: without clientsecret":              invalid("nodePublishSecretRef[clientsecret]: is missing; add the key to the Secret, or write clientID in the class for a workload identity"),

		"objectEncoding: base64 of another text": refusal(codes.FailedPrecondition, `objects[0]: secret "plain"`+vault+" is not base64; correct the value or the encoding"),
		"objectFormat: pfx of PEM":               refusal(codes.FailedPrecondition, `objects[0]: secret "pemcert"`+vault+" is not base64; correct the value or the encoding"),
		"secret that is disabled":                refusal(codes.FailedPrecondition, `objects[0]: secret "off"`+service+": HTTP 403 Forbidden, SecretDisabled: it is disabled; enable it, or remove the object from the SecretProviderClass"),
		"secret that does not exist":             refusal(codes.NotFound, `objects[0]: secret "no-such-secret"`+service+": HTTP 404 SecretNotFound: there is no such object; check the name, or recover it if it was deleted"),
		"objectVersion: of none":                 refusal(codes.NotFound, `objects[0]: secret "versioned" version 00000000000000000000000000000000`+service+": HTTP 404 SecretNotFound: there is no such object, or not in this version; check both, or recover it if it was deleted"),
		"keyvaultName: of no vault":              refusal(codes.Unavailable, `objects[0]: secret "plain" of https://nosuch.vault.azure.net as servicePrincipal `+recordedClient+": no answer from nosuch.vault.azure.net: the proxy answered CONNECT with HTTP 502; check the name, and what the proxy allows"),
	} {
		decided[name] = decision{answer: answer}
	}
	return decided
}

func invalid(text string) answer { return refusal(codes.InvalidArgument, text) }

// modernAnswer is the PEM of the recorded certificate whose PKCS#12 file is encrypted with AES, which the provider cannot read.
func modernAnswer(t *testing.T) answer {
	t.Helper()
	var held struct {
		Certificates []struct{ Name, Version, Value string }
	}
	parse(t, "vault.json", &held)
	for _, c := range held.Certificates {
		if c.Name != "modern" {
			continue
		}
		pfx, err := base64.StdEncoding.DecodeString(c.Value)
		must(t, err)
		key, leaf, authorities, err := pkcs12.DecodeChain(pfx, "")
		must(t, err)
		want := keyPEM(t, key) + certPEMs(append([]*x509.Certificate{leaf}, authorities...)...)
		return files(file{"modern", "0644", want, "secret/modern", c.Version})
	}
	t.Fatal("the recorded vault has no certificate modern")
	return answer{}
}
