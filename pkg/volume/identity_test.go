package volume_test

import (
	"bytes"
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

func TestIdentity(t *testing.T) {
	t.Parallel()
	const (
		upper    = "AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE"
		resource = "/Subscriptions/x/resourceGroups/y/providers/Microsoft.ManagedIdentity/userAssignedIdentities/z"
	)
	assertion := volume.NewSecret([]byte(jwt(`{"sub":"system:serviceaccount:shop:web","aud":["` + audience + `"]}`)))
	secret := volume.NewSecret([]byte(plantedSecret))
	pfx := []byte{0x30, 0x82, 1, 2, 3, 0xff}
	for name, row := range map[string]struct {
		change   pairs
		secrets  pairs
		fallback volume.IdentityKind
		want     volume.Identity
	}{
		"workload by clientID": {
			want: volume.Identity{Kind: volume.Workload, ClientID: clientID, Assertion: assertion},
		},
		"workload, upper case, tenant": {
			change: pairs{"identity": "workload", "clientID": upper, "tenantID": upper},
			want:   volume.Identity{Kind: volume.Workload, ClientID: otherGUID, TenantID: otherGUID, Assertion: assertion},
		},
		"workload, tokens among the secrets": {
			change:  pairs{volume.KubeletTokens: "not read"},
			secrets: pairs{volume.KubeletTokens: podTokens()},
			want:    volume.Identity{Kind: volume.Workload, ClientID: clientID, Assertion: assertion},
		},
		"workload, tenant auto": {
			change: pairs{"tenantID": "auto"},
			want:   volume.Identity{Kind: volume.Workload, ClientID: clientID, DetectTenant: true, Assertion: assertion},
		},
		"workload, tenant a domain": {
			change: pairs{"tenantID": "Contoso.OnMicrosoft.com"},
			want:   volume.Identity{Kind: volume.Workload, ClientID: clientID, TenantID: "contoso.onmicrosoft.com", Assertion: assertion},
		},
		"workload is named, the Secret is not needed": {
			change:  pairs{"identity": "workload"},
			secrets: pairs{"clientid": clientID, "clientsecret": plantedSecret},
			want:    volume.Identity{Kind: volume.Workload, ClientID: clientID, Assertion: assertion},
		},
		"workload, a Secret without a login": {
			secrets: pairs{"password": plantedSecret, "clientsecret": ""},
			want:    volume.Identity{Kind: volume.Workload, ClientID: clientID, Assertion: assertion},
		},
		"service principal by the Secret": {
			change:  pairs{"clientID": "-", volume.KubeletTokens: "-"},
			secrets: pairs{"clientid": clientID + "\n", "clientsecret": plantedSecret + "\n"},
			want:    volume.Identity{Kind: volume.ServicePrincipal, ClientID: clientID, ClientSecret: secret},
		},
		"service principal before workload and default": {
			secrets:  pairs{"clientsecret": plantedSecret},
			fallback: volume.Cluster,
			want:     volume.Identity{Kind: volume.ServicePrincipal, ClientID: clientID, ClientSecret: secret},
		},
		"service principal, keys in any case": {
			change:  pairs{"clientID": "-"},
			secrets: pairs{"ClientID": upper, "CLIENTSECRET": plantedSecret, "tenantId": "contoso.com", "other": "x"},
			want:    volume.Identity{Kind: volume.ServicePrincipal, ClientID: otherGUID, TenantID: "contoso.com", ClientSecret: secret},
		},
		"service principal, attributes that agree": {
			change:  pairs{"clientID": upper, "tenantID": upper, "identity": "servicePrincipal"},
			secrets: pairs{"clientid": otherGUID, "tenantid": otherGUID, "clientsecret": plantedSecret},
			want:    volume.Identity{Kind: volume.ServicePrincipal, ClientID: otherGUID, TenantID: otherGUID, ClientSecret: secret},
		},
		"service principal, PEM": {
			secrets: pairs{"clientcertificate": plantedPEM, "clientcertificatepassword": plantedPassword},
			want: volume.Identity{
				Kind: volume.ServicePrincipal, ClientID: clientID, ClientCertificate: volume.NewSecret([]byte(plantedPEM)),
				ClientCertificatePassword: volume.NewSecret([]byte(plantedPassword)),
			},
		},
		"service principal, PFX": {
			secrets: pairs{"clientcertificate": base64.StdEncoding.EncodeToString(pfx) + "\n"},
			want: volume.Identity{
				Kind: volume.ServicePrincipal, ClientID: clientID, ClientCertificate: volume.NewSecret(pfx),
			},
		},
		"system-assigned": {
			change: pairs{"clientID": "-", "identity": "managed"},
			want:   volume.Identity{Kind: volume.Managed},
		},
		"user-assigned by client id": {
			change: pairs{"identity": "managed"},
			want:   volume.Identity{Kind: volume.Managed, ClientID: clientID},
		},
		"user-assigned by object id": {
			change: pairs{"clientID": "-", "identity": "managed", "objectID": upper},
			want:   volume.Identity{Kind: volume.Managed, ObjectID: otherGUID},
		},
		"user-assigned by resource id": {
			change:   pairs{"clientID": "-", "resourceID": resource},
			fallback: volume.Managed,
			want:     volume.Identity{Kind: volume.Managed, ResourceID: resource},
		},
		"cluster": {
			change: pairs{"clientID": "-", "identity": "cluster", "tenantID": otherGUID},
			want:   volume.Identity{Kind: volume.Cluster, TenantID: otherGUID},
		},
		"cluster, tenant auto": {
			change: pairs{"clientID": "-", "identity": "cluster", "tenantID": "auto"},
			want:   volume.Identity{Kind: volume.Cluster, DetectTenant: true},
		},
		"the operator's default": {
			change:   pairs{"clientID": "-"},
			fallback: volume.Cluster,
			want:     volume.Identity{Kind: volume.Cluster},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, err := volume.Parse(valid(row.change), row.secrets, volume.Defaults{Identity: row.fallback})
			checkError(t, err, "")
			if diff := cmp.Diff(row.want, request.Identity); diff != "" {
				t.Errorf("Identity (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	principal := func(more pairs) pairs {
		secrets := pairs{"clientid": clientID, "clientsecret": plantedSecret, "tenantid": otherGUID}
		maps.Copy(secrets, more)
		return secrets
	}
	refuse(t, map[string]refusal{
		"none": {pairs{"clientID": "-"}, nil, "identity: the pod names none: set clientID (workload identity), or name a Secret " +
			"with clientid and clientsecret or clientcertificate in nodePublishSecretRef (servicePrincipal), " +
			"or set identity to managed or to cluster"},
		"unknown": {pairs{"identity": "msi"}, nil,
			`identity: "msi" must be workload, servicePrincipal, managed or cluster`},
		"near miss": {pairs{"identity": "serviceprincipal"}, nil,
			`identity: "serviceprincipal" must be workload, servicePrincipal, managed or cluster, did you mean servicePrincipal?`},
		"clientID":       {pairs{"clientID": "my-app"}, nil, `clientID: is not a GUID`},
		"clientID empty": {pairs{"clientID": ""}, nil, `clientID: is not a GUID`},
		"clientID with braces": {pairs{"clientID": "{" + clientID + "}"}, nil,
			`clientID: is not a GUID`},
		"objectID": {pairs{"identity": "managed", "clientID": "-", "objectID": "x y"}, nil, `objectID: is not an object id, such as a GUID`},
		"resourceID": {pairs{"identity": "managed", "clientID": "-", "resourceID": "subscriptions/x"}, nil,
			`resourceID: "subscriptions/x" is not a resource id that begins with /subscriptions/`},
		"resourceID with a line end": {pairs{"identity": "managed", "clientID": "-", "resourceID": "/subscriptions/x\n"}, nil,
			`resourceID: "/subscriptions/x\n" is not a resource id that begins with /subscriptions/`},
		"tenantID":            {pairs{"tenantID": "common"}, nil, `tenantID: is not a GUID, a domain name or auto`},
		"tenantID an address": {pairs{"tenantID": "10.0.0.1"}, nil, `tenantID: is not a GUID, a domain name or auto`},
		"tenantID with a Kelvin sign": {pairs{"tenantID": "\u212aontoso.com"}, nil,
			`tenantID: is not a GUID, a domain name or auto`},
		"tenantID a path": {pairs{"tenantID": "a.b/../c.d"}, nil, `tenantID: is not a GUID, a domain name or auto`},

		"workload without clientID": {pairs{"identity": "workload", "clientID": "-"}, nil,
			"clientID: is missing, identity workload needs it"},
		"workload with objectID": {pairs{"objectID": otherGUID}, nil, "objectID: does not go with identity workload"},
		"cluster with clientID":  {pairs{"identity": "cluster"}, nil, "clientID: does not go with identity cluster"},
		"principal with resourceID": {pairs{"resourceID": "/subscriptions/x"}, principal(nil),
			"resourceID: does not go with identity servicePrincipal"},
		"managed by two": {pairs{"identity": "managed", "objectID": otherGUID}, nil,
			"identity: managed takes one of clientID, objectID and resourceID, not clientID and objectID"},

		"principal, clientID differs": {pairs{"clientID": otherGUID}, principal(nil),
			"clientID: differs from the key clientid of the Secret"},
		"principal, tenantID differs": {pairs{"tenantID": "contoso.com"}, principal(nil),
			"tenantID: differs from the key tenantid of the Secret"},
		"workload, clientID differs": {pairs{"identity": "workload", "clientID": otherGUID}, principal(nil),
			"clientID: differs from the key clientid of the Secret"},
		"principal, both": {nil, principal(pairs{"clientcertificate": plantedPEM}),
			"identity: servicePrincipal takes clientsecret or clientcertificate, and the Secret holds both"},
		"principal, neither": {pairs{"identity": "servicePrincipal"}, nil,
			"identity: servicePrincipal needs the key clientsecret or clientcertificate in the Secret of nodePublishSecretRef"},
		"principal, near miss": {pairs{"clientID": "-"}, pairs{"clientid": clientID, "client-secret": plantedSecret},
			"identity: servicePrincipal needs the key clientsecret or clientcertificate in the Secret of nodePublishSecretRef, " +
				`whose key "client-secret" is not read, did you mean clientsecret?`},
		"principal without client id": {pairs{"clientID": "-"}, pairs{"clientsecret": plantedSecret},
			"identity: servicePrincipal needs the client id, as clientID or as the key clientid of the Secret of nodePublishSecretRef"},
		"principal, client id no GUID": {pairs{"clientID": "-"}, principal(pairs{"clientid": plantedSecret}),
			"nodePublishSecretRef[clientid]: is not a GUID"},
		"principal, tenant no GUID": {nil, principal(pairs{"tenantid": plantedSecret}),
			"nodePublishSecretRef[tenantid]: is not a GUID, a domain name or auto"},
		"principal, a secret without end": {nil, principal(pairs{"clientsecret": strings.Repeat("s", 64<<10+1)}),
			"nodePublishSecretRef[clientsecret]: is longer than 64 KiB"},
		"principal, a certificate without end": {nil,
			pairs{"clientcertificate": plantedPEM + strings.Repeat("\n", 64<<10), "clientcertificatepassword": strings.Repeat("p", 64<<10+1)},
			"nodePublishSecretRef[clientcertificate]: is longer than 64 KiB; nodePublishSecretRef[clientcertificatepassword]: is longer than 64 KiB"},
		"principal, no certificate": {nil, pairs{"clientcertificate": plantedSecret},
			"nodePublishSecretRef[clientcertificate]: is neither PEM nor the base64 text of a PFX"},
		"principal, two spellings": {nil, principal(pairs{"ClientSecret": plantedPassword}),
			"nodePublishSecretRef[clientsecret]: the Secret has this key in two spellings with two values"},
	})
}

func TestTokenRefused(t *testing.T) {
	t.Parallel()
	const (
		none    = `csi.storage.k8s.io/serviceAccount.tokens: the kubelet sent no token for audience "api://AzureADTokenExchange", the CSIDriver object must list it under tokenRequests`
		noJWT   = `csi.storage.k8s.io/serviceAccount.tokens: the token for audience "api://AzureADTokenExchange" is not a JWT`
		another = `csi.storage.k8s.io/serviceAccount.tokens: the token for audience "api://AzureADTokenExchange" is not that of the pod's service account "shop/web"`
	)
	with := func(token string) pairs { return pairs{volume.KubeletTokens: tokens(audience, token)} }
	refuse(t, map[string]refusal{
		"no tokens":      {pairs{volume.KubeletTokens: "-"}, nil, none},
		"other audience": {pairs{volume.KubeletTokens: tokens("vault", jwt(`{"sub":"planted"}`))}, nil, none},
		"empty token":    {with(""), nil, none},
		"null":           {pairs{volume.KubeletTokens: "null"}, nil, none},
		"no JSON": {pairs{volume.KubeletTokens: plantedSecret}, nil,
			"csi.storage.k8s.io/serviceAccount.tokens: is not the JSON that the kubelet writes"},
		"the secrets come first": {nil, pairs{volume.KubeletTokens: `{"planted":`},
			"csi.storage.k8s.io/serviceAccount.tokens: is not the JSON that the kubelet writes"},
		"the secrets are all there is": {nil, pairs{volume.KubeletTokens: `{}`}, none},

		"no JWT":           {with(plantedSecret), nil, noJWT},
		"two parts":        {with("planted.planted"), nil, noJWT},
		"payload not JSON": {with(jwt("planted")), nil, noJWT},
		"payload a list":   {with(jwt(`["planted"]`)), nil, noJWT},
		"no sub":           {with(jwt(`{"SUB":"system:serviceaccount:shop:web"}`)), nil, noJWT},
		"sub a number":     {with(jwt(`{"sub":1}`)), nil, noJWT},
		"line end":         {with(jwt(`{"sub":"system:serviceaccount:shop:web"}`) + "\n"), nil, noJWT},

		"other service account": {with(jwt(`{"sub":"system:serviceaccount:shop:planted"}`)), nil, another},
		"other namespace":       {with(jwt(`{"sub":"system:serviceaccount:planted:web"}`)), nil, another},
		"longer subject":        {with(jwt(`{"sub":"system:serviceaccount:shop:web:planted"}`)), nil, another},
		"no service account known": {pairs{volume.KubeletServiceAccount: "-", volume.KubeletTokens: tokens(audience, jwt(`{"sub":"planted"}`))}, nil,
			"csi.storage.k8s.io/serviceAccount.name: is missing, the CSIDriver object must have podInfoOnMount: true"},
	})

	custom := volume.Defaults{TokenAudience: "api://AzureADTokenExchangeChina"}
	_, err := volume.Parse(valid(), nil, custom)
	checkError(t, err, `csi.storage.k8s.io/serviceAccount.tokens: the kubelet sent no token for audience "api://AzureADTokenExchangeChina", the CSIDriver object must list it under tokenRequests`)
	own := pairs{volume.KubeletTokens: tokens(custom.TokenAudience, jwt(`{"sub":"system:serviceaccount:shop:web"}`))}
	_, err = volume.Parse(valid(own), nil, custom)
	checkError(t, err, "")
}

// The claims of a token have its cluster, service account and pod. Claims that are absent or of another type are empty.
func TestTokenClaims(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ claims, issuer, account, pod string }{
		"as Kubernetes writes it": {`,"iss":"https://cluster","kubernetes.io":{"namespace":"shop","pod":{"name":"web-0","uid":"p1"},"serviceaccount":{"name":"web","uid":"s1"}}`,
			"https://cluster", "s1", "p1"},
		"bound to no pod":   {`,"iss":"https://cluster","kubernetes.io":{"serviceaccount":{"uid":"s1"}}`, "https://cluster", "s1", ""},
		"of another issuer": {`,"iss":"https://other"`, "https://other", "", ""},
		"none":              {``, "", "", ""},
		"in capitals":       {`,"ISS":"planted","Kubernetes.io":{"serviceaccount":{"uid":"planted"}}`, "", "", ""},
		"in capitals below": {`,"kubernetes.io":{"serviceAccount":{"uid":"planted"},"pod":{"UID":"planted"}}`, "", "", ""},
		"in other types":    {`,"iss":1,"kubernetes.io":{"serviceaccount":{"uid":["planted"]},"pod":"planted"}`, "", "", ""},
		"null":              {`,"iss":null,"kubernetes.io":null`, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := jwt(`{"sub":"system:serviceaccount:shop:web"` + row.claims + `}`)
			id := mustParse(t, valid(pairs{volume.KubeletTokens: tokens(audience, token)}), nil).Identity
			want := volume.Identity{Kind: volume.Workload, ClientID: clientID, Assertion: volume.NewSecret([]byte(token)),
				Issuer: row.issuer, ServiceAccountUID: row.account, BoundPodUID: row.pod}
			if diff := cmp.Diff(want, id, cmp.Comparer(func(a, b volume.Secret) bool { return bytes.Equal(a.Reveal(), b.Reveal()) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}
