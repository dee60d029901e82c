package devcloud

import (
	"encoding/base64"
	"fmt"
)

// The content of a seeded cloud.
const (
	SeedTenant = "0b3c5a40-9d8e-4d6f-8a3f-5a1de3f0c001"
	SeedDomain = "shop.example" // another name of the tenant
	SeedVault  = "shop"         // https://shop.vault.azure.net

	// A service principal with a secret and all rights.
	SeedServicePrincipal = "7d1f6a52-3c84-4b0e-9a53-b7c5a1e0d002"
	SeedClientSecret     = "dev~Cloud8Q.of-the-shop_principal" //nolint:gosec // valid in this process only

	// An application for workload identity: it trusts the service account web in the namespace shop.
	SeedWorkload       = "c4e83b19-6f27-45da-8e1c-20d94f7a6003"
	SeedIssuer         = "https://oidc.shop.example/cluster/"
	SeedNamespace      = "shop"
	SeedServiceAccount = "web"

	// The node's own managed identity (system-assigned); it may read secrets.
	SeedManaged = "e95d0c7e-18ab-4f36-b2d0-6c3f8b52a004"
)

// Seeded is the result of Seed.
type Seeded struct {
	Vault  *Vault
	Issuer *Issuer // of the service account tokens
	WebTLS *Certificate
}

// Seed fills a cloud with an example: one tenant with three identities, and one vault.
//
//	db-password      plain text
//	payment-key      32 bytes in base64, tagged file-encoding=base64
//	web-tls          a PFX certificate: RSA key, leaf, intermediate and root, in Key Vault's order (root first)
//	api-tls          a PEM certificate with a P-256 key
//	signing-key      a P-256 key
//	legacy-token     a disabled secret
//	app-log-level, app-smtp-password, app-feature-flags    tagged env=prod, the last env=test
func Seed(c *Cloud) (*Seeded, error) {
	c.AddTenant(SeedTenant, SeedDomain)
	vault, err := c.AddVault(SeedVault, VaultOptions{Tenant: SeedTenant})
	if err != nil {
		return nil, err
	}
	issuer := c.NewIssuer(SeedIssuer)
	for _, id := range []Identity{
		{ClientID: SeedServicePrincipal, Name: "shop-deploy", Secrets: []ClientSecret{{Value: SeedClientSecret}}},
		{ClientID: SeedWorkload, Name: "shop-web", Federated: []FederatedCredential{{
			Issuer: SeedIssuer, Subject: "system:serviceaccount:" + SeedNamespace + ":" + SeedServiceAccount,
		}}},
		{ClientID: SeedManaged, Name: "shop-node", Managed: true, SystemAssigned: true},
	} {
		id.Tenant, id.ObjectID = SeedTenant, stableGUID("object", id.ClientID)
		if err := c.AddIdentity(id); err != nil {
			return nil, err
		}
	}
	vault.Grant(SeedServicePrincipal)
	vault.Grant(SeedWorkload)
	vault.Grant(SeedManaged, SecretsGet)

	web, err := seedObjects(vault)
	if err != nil {
		return nil, fmt.Errorf("devcloud: seed: %w", err)
	}
	return &Seeded{Vault: vault, Issuer: issuer, WebTLS: web}, nil
}

func seedObjects(v *Vault) (*Certificate, error) {
	binary := make([]byte, 32)
	for i := range binary {
		binary[i] = ^byte(i) // not a text in any encoding
	}
	for _, s := range []struct {
		name, value string
		opts        SecretOptions
	}{
		{"db-password", "correct horse battery staple", SecretOptions{ContentType: "text/plain", Tags: map[string]string{"env": "prod"}}},
		{"payment-key", base64.StdEncoding.EncodeToString(binary), SecretOptions{Tags: map[string]string{"file-encoding": "base64"}}},
		{"legacy-token", "was-good-until-2024", SecretOptions{Disabled: true}},
		{"app-log-level", "info", SecretOptions{Tags: map[string]string{"env": "prod"}}},
		{"app-smtp-password", "mail-3f9c1e", SecretOptions{Tags: map[string]string{"env": "prod", "team": "mail"}}},
		{"app-feature-flags", `{"newCheckout":true}`, SecretOptions{ContentType: "application/json", Tags: map[string]string{"env": "test"}}},
	} {
		v.SetSecret(s.name, s.value, s.opts)
	}
	web, err := v.SetCertificate("web-tls", CertificateOptions{CommonName: "www.shop.example", Intermediates: 1})
	if err != nil {
		return nil, err
	}
	if _, err := v.SetCertificate("api-tls", CertificateOptions{
		CommonName: "api.shop.example", KeyType: P256, ContentType: PEMFile, Intermediates: 1,
	}); err != nil {
		return nil, err
	}
	_, err = v.SetKey("signing-key", KeyOptions{KeyType: P256})
	return web, err
}
