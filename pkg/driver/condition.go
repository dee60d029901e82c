package driver

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protowire"
)

// Version 1.13 of the CSI specification took VolumeCondition out and put NodeGetVolumeHealth in its place. Every
// kubelet of today was built against an earlier one: with the feature gate CSIVolumeHealth it asks for the condition
// in NodeGetVolumeStats, if the capability says that there is one. So both are answered; the numbers below are
// reserved in 1.13, so that nothing else can ever be meant by them, and a newer client skips what it does not know.
const (
	capabilityVolumeCondition csi.NodeServiceCapability_RPC_Type = 4

	fieldVolumeCondition = 2 // of NodeGetVolumeStatsResponse
	fieldAbnormal        = 1 // of VolumeCondition: bool
	fieldMessage         = 2 // of VolumeCondition: string, required
)

// addCondition says in the words of CSI 1.12 how the last refresh of the volume went.
func addCondition(response *csi.NodeGetVolumeStatsResponse, failure note, failed bool) {
	message := "no refresh of the volume has failed since the driver started"
	if failed {
		message = failure.text
	}
	var condition []byte
	condition = protowire.AppendTag(condition, fieldAbnormal, protowire.VarintType)
	condition = protowire.AppendVarint(condition, protowire.EncodeBool(failed))
	condition = protowire.AppendTag(condition, fieldMessage, protowire.BytesType)
	condition = protowire.AppendString(condition, message)

	var field []byte
	field = protowire.AppendTag(field, fieldVolumeCondition, protowire.BytesType)
	field = protowire.AppendBytes(field, condition)
	response.ProtoReflect().SetUnknown(field)
}
