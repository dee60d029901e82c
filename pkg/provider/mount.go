package provider

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/pkg/providerclass"
	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// maxPath is PATH_MAX without the terminating NUL.
const maxPath = 4095

// call is a MountRequest, decoded.
type call struct {
	attributes, secrets map[string]string
	target              string
	permission          fs.FileMode
	refresh             bool // the volume has files already
}

// decode does not repeat what it cannot read, because it may be a secret.
func decode(req *v1alpha1.MountRequest) (c call, err error) {
	c.target, c.refresh = req.GetTargetPath(), len(req.GetCurrentObjectVersion()) > 0
	switch {
	case json.Unmarshal([]byte(req.GetAttributes()), &c.attributes) != nil:
		err = invalid("attributes are not a JSON object of strings, as the Secrets Store CSI Driver sends them")
	case json.Unmarshal([]byte(req.GetSecrets()), &c.secrets) != nil:
		err = invalid("secrets are not a JSON object of strings, as the Secrets Store CSI Driver sends them")
	case json.Unmarshal([]byte(req.GetPermission()), &c.permission) != nil, c.permission == 0, c.permission > fs.ModePerm:
		err = invalid("permission is not the mode of a file as a JSON number, from 1 to 511 (octal 0777)")
	case c.target == "":
		err = invalid("target_path is missing")
	case len(c.target) > maxPath:
		err = invalid("target_path has %d bytes, more than the %d of a path", len(c.target), maxPath)
	}
	return c, err
}

// Mount implements the service.
func (s *Server) Mount(ctx context.Context, req *v1alpha1.MountRequest) (response *v1alpha1.MountResponse, err error) {
	c, err := decode(req)
	if err != nil {
		return nil, err
	}
	volumeID, before := volumeOf(c.target), s.targets.see(c.target)
	c.refresh = c.refresh || before.answered
	parse := func() (volume.Request, error) {
		class := s.class
		class.Mode = c.permission
		request, err := providerclass.Request(c.attributes, c.secrets, class)
		request.Volume, request.Refresh, request.Poll, request.RotationInterval = volumeID, c.refresh, true, s.interval
		return request, err
	}
	var lacks [sha256.Size]byte
	err = s.pipeline.Run(ctx, c.attributes, c.secrets, parse, func(ctx context.Context, content volume.Content) error {
		lacks = lackOf(content)
		logger := klog.FromContext(ctx)
		changed, none := lacks != before.lacks, target{}
		if changed {
			logLack(logger, content)
		}
		switch {
		case !c.refresh && content.Outage == nil:
			logger.Info("volume of a SecretProviderClass answered")
		case c.refresh && (before.failure != none.failure || changed && lacks == none.lacks):
			logger.Info("volume of a SecretProviderClass answered again")
		}
		response = answer(content)
		return nil
	})
	switch {
	case err == nil:
		s.targets.answered(c.target, lacks)
	case !c.refresh:
		s.pipeline.Forget(volumeID)
	}
	if errors.Is(err, volume.ErrUnavailable) {
		// The Secrets Store CSI Driver would repeat the call twice within two seconds, while the failure still pauses.
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
	}
	return response, err
}

// answer has the files in the order of their objects. Each file is beside the version of its object.
func answer(content volume.Content) *v1alpha1.MountResponse {
	files := make(map[string]volume.File, len(content.Files))
	for _, file := range content.Files {
		files[file.Path] = file
	}
	response := &v1alpha1.MountResponse{
		ObjectVersion: make([]*v1alpha1.ObjectVersion, 0, len(files)), Files: make([]*v1alpha1.File, 0, len(files)),
	}
	for _, v := range content.Versions {
		for _, path := range v.Paths {
			file := files[path]
			response.ObjectVersion = append(response.ObjectVersion, &v1alpha1.ObjectVersion{Id: v.ID, Version: v.Version})
			mode := int32(file.Mode.Perm()) //nolint:gosec // G115: nine bits
			response.Files = append(response.Files, &v1alpha1.File{Path: path, Mode: mode, Contents: file.Data.Reveal()})
		}
	}
	return response
}

// lackOf returns the digest of what the content lacks, and zero if it is whole.
func lackOf(content volume.Content) (digest [sha256.Size]byte) {
	text := strings.Join(append(slices.Clone(content.Notes), content.Gaps...), "\n")
	if content.Outage != nil {
		text += "\n" + content.Outage.Error()
	}
	if text == "" {
		return digest
	}
	return sha256.Sum256([]byte(text))
}

// logLack logs what the content lacks. The polls after it say the same each time.
func logLack(logger klog.Logger, content volume.Content) {
	if content.Outage != nil {
		reason := "the files are the last that this node saw: " + content.Outage.Error()
		logger.Error(errors.New(oneLine(reason)), "volume of a SecretProviderClass answered without the vault")
		return
	}
	if len(content.Notes) > 0 {
		logger.Info("volume lacks files", "objects", len(content.Notes), "reason", oneLine(strings.Join(content.Notes, "; ")))
	}
	if len(content.Gaps) > 0 {
		logger.Error(nil, "volume has an incomplete chain of certificates; many clients do not accept it",
			"reason", oneLine(strings.Join(content.Gaps, "; ")))
	}
}

func oneLine(text string) string { return volume.OneLine(text, volume.MaxText) }

func invalid(format string, args ...any) error {
	return volume.Errorf(volume.ErrInvalid, "the call of Mount: "+format, args...)
}
