package main

import (
	"fmt"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// account is a service account and its identity; a namespace has one.
type account struct{ namespace, serviceAccount, clientID string }

// web is the account of every node.
var web = account{node.Namespace, node.ServiceAccount, node.WorkloadID}

// newAccounts makes more accounts, each with an identity that may read the whole vault.
func newAccounts(n *node.Node, count int) ([]account, error) {
	accounts := make([]account, count)
	for i := range accounts {
		a := account{fmt.Sprintf("shop-%02d", i), "web", fmt.Sprintf("22222222-3333-4444-5555-%012d", i)}
		identity := devcloud.Identity{Tenant: node.Tenant, ClientID: a.clientID, Name: a.namespace, Federated: []devcloud.FederatedCredential{
			{Issuer: n.Issuer.URL(), Subject: "system:serviceaccount:" + a.namespace + ":" + a.serviceAccount},
		}}
		if err := n.Cloud.AddIdentity(identity); err != nil {
			return nil, err
		}
		n.Vault.Grant(a.clientID)
		accounts[i] = a
	}
	return accounts, nil
}
