package volume_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

const (
	clientID  = "11111111-2222-3333-4444-555555555555"
	otherGUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	version   = "9d90276b377b4d9ea10763c153a2f015"
	audience  = "api://AzureADTokenExchange"

	// No error may hold these.
	plantedSecret   = "planted-client-secret"
	plantedPassword = "planted-password"
	plantedPEM      = "-----BEGIN CERTIFICATE-----\nplanted-certificate\n-----END CERTIFICATE-----\n"
)

type pairs = map[string]string

// jwt returns a token with this payload and an invalid signature.
func jwt(payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(payload)) + "." + encode([]byte("planted-signature"))
}

// tokens returns the JSON of the kubelet for one audience.
func tokens(audience, token string) string {
	return fmt.Sprintf(`{%q:{"token":%q,"expirationTimestamp":"2026-11-23T03:00:00Z"}}`, audience, token)
}

func podTokens() string {
	return tokens(audience, jwt(`{"sub":"system:serviceaccount:shop:web","aud":["`+audience+`"]}`))
}

// valid returns the attributes of a valid volume with changes; the value "-" removes an attribute.
func valid(changes ...pairs) pairs {
	attributes := pairs{
		volume.KubeletPodName:        "web-0",
		volume.KubeletPodNamespace:   "shop",
		volume.KubeletPodUID:         "3f4e2a0c-9d4e-4c3b-8f57-000000000001",
		volume.KubeletServiceAccount: "web",
		volume.KubeletEphemeral:      "true",
		volume.KubeletTokens:         podTokens(),
		"vault":                      "https://myvault.vault.azure.net",
		"clientID":                   clientID,
		"secrets":                    "db-password",
	}
	for _, change := range changes {
		maps.Copy(attributes, change)
	}
	maps.DeleteFunc(attributes, func(_, value string) bool { return value == "-" })
	return attributes
}

// structured is valid with the attribute objects instead of secrets.
func structured(yaml string) pairs { return valid(pairs{"secrets": "-", "objects": yaml}) }

func mustParse(t *testing.T, attributes, secrets pairs) volume.Request {
	t.Helper()
	request, err := volume.Parse(attributes, secrets, volume.Defaults{})
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return request
}

// checkError compares the whole text, and checks what is true for every error of the package.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatalf("unexpected error: %v", err)
	case want == "":
		return
	case err == nil:
		t.Fatalf("no error, want %q", want)
	case err.Error() != want:
		t.Errorf("error\n got %s\nwant %s", err, want)
	}
	checkInvalid(t, err)
}

func checkInvalid(t *testing.T, err error) {
	t.Helper()
	var problems volume.Problems
	if !errors.Is(err, volume.ErrInvalid) || !errors.As(err, &problems) || len(problems) == 0 {
		t.Errorf("%v is not a list of problems that is ErrInvalid", err)
	}
	if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%q is not one line of ASCII", text)
	}
	if strings.Contains(err.Error(), "planted") {
		t.Errorf("%q gives a secret away", err)
	}
}

// refusal is a row of a table: a change to valid attributes, and the whole error.
type refusal struct {
	change  pairs
	secrets pairs
	want    string
}

func refuse(t *testing.T, rows map[string]refusal) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := volume.Parse(valid(row.change), row.secrets, volume.Defaults{})
			checkError(t, err, row.want)
			if row.want == "" {
				t.Error("the row names no error")
			}
		})
	}
}
