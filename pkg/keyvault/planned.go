package keyvault

import (
	"github.com/keyvault-csi/keyvault-csi/pkg/keyvault/reads"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// Planned is one request of [Client.Fetch] to a vault.
type Planned = reads.Planned

// Plan returns the distinct requests that Fetch sends for a request without a cached value, in its order: lists first.
func Plan(r volume.Request) []Planned { return reads.Plan(r) }
