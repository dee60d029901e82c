package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/config"
	"github.com/keyvault-csi/keyvault-csi/cmd/keyvault-csi-sync/internal/secret"
)

// Check looks once at each Secret of the configuration, and returns an error for each that the keyvault-csi-sync of that name does not keep
// with this configuration. It does not know the values, and changes nothing.
func Check(ctx context.Context, server API, c config.Config, name string) error {
	var problems []error
	for _, spec := range c.Secrets {
		live, err := server.Get(ctx, spec.Name)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("secret %s: %w", spec.Name, err))
		case live == nil:
			problems = append(problems, fmt.Errorf("secret %s does not exist", spec.Name))
		case live.Metadata.Labels[secret.NameLabel] != name:
			problems = append(problems, fmt.Errorf("secret %s is not kept by the keyvault-csi-sync %q", spec.Name, name))
		case live.Metadata.Annotations[secret.ConfigAnnotation] != spec.Digest():
			problems = append(problems, fmt.Errorf("secret %s was made from another configuration", spec.Name))
		}
	}
	return errors.Join(problems...)
}
