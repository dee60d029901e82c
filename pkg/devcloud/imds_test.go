package devcloud_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
)

const imdsPath = "/metadata/identity/oauth2/token"

// TestWhoAnswers requests a token without an id, and reads its identity from the claims.
func TestWhoAnswers(t *testing.T) {
	t.Parallel()
	const userAssigned = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
	own := devcloud.Identity{ClientID: "own", ObjectID: "object-own", Managed: true, SystemAssigned: true}
	web := devcloud.Identity{ClientID: "web", ObjectID: "object-web", Managed: true, ResourceID: userAssigned + "web"}
	api := devcloud.Identity{ClientID: "api", ObjectID: "object-api", Managed: true, ResourceID: userAssigned + "api"}
	app := devcloud.Identity{ClientID: "app", Name: "no managed identity"}
	for name, test := range map[string]struct {
		identities []devcloud.Identity
		query      string
		claims     map[string]string // nil: refused
		text       string            // of the refusal
	}{
		"system-assigned": {[]devcloud.Identity{own, web, api, app}, "", map[string]string{
			"appid": "own", "oid": "object-own",
			"xms_mirid": "/subscriptions/5ca1ab1e-0000-4000-8000-000000000001/resourcegroups/dev/providers/Microsoft.Compute/virtualMachineScaleSets/node",
		}, ""},
		"the only one": {[]devcloud.Identity{web, app}, "", map[string]string{"appid": "web", "oid": "object-web", "xms_mirid": userAssigned + "web"}, ""},
		"one of two, by name": {[]devcloud.Identity{web, api}, "&msi_res_id=" + userAssigned + "API",
			map[string]string{"appid": "api", "oid": "object-api", "xms_mirid": userAssigned + "api"}, ""},
		"one of two": {[]devcloud.Identity{web, api}, "", nil, `{"error":"invalid_request","error_description":` +
			`"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}`},
		"none": {[]devcloud.Identity{app}, "", nil, `{"error":"invalid_request","error_description":"Identity not found"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud, err := devcloud.Start(t.Context(), devcloud.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cloud.Close)
			cloud.AddTenant(tenant, "by.another.name")
			for _, id := range test.identities {
				addIdentity(t, cloud, id)
			}
			status, _, body := get(t, plain, http.MethodGet,
				cloud.IMDSURL()+imdsPath+"?api-version=2018-02-01&resource=https://vault.azure.net"+test.query, http.Header{"Metadata": {"true"}})
			if test.claims == nil {
				if status != http.StatusBadRequest || strings.TrimSpace(body) != test.text {
					t.Errorf("%d %s, want 400 %s", status, body, test.text)
				}
				return
			}
			var answer struct {
				Token string `json:"access_token"`
			}
			var claims jwt.MapClaims
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatalf("%d %s: %v", status, body, err)
			}
			if _, _, err := jwt.NewParser().ParseUnverified(answer.Token, &claims); err != nil {
				t.Fatal(err)
			}
			for claim, want := range test.claims {
				if claims[claim] != want {
					t.Errorf("%s is %v, want %s", claim, claims[claim], want)
				}
			}
		})
	}
}
