// Package driver serves the Container Storage Interface (CSI) to the kubelet, in the terms of package volume.
//
// The kubelet calls NodePublishVolume when a pod starts, and again every 60 to 90 seconds while it runs
// (CSIDriver.spec.requiresRepublish), each time with new tokens. One call is eight steps:
//
//  1. check the CSI fields
//  2. lock the target; a second call for it is refused and not queued
//  3. ask the store how old the set at the target is; younger than its interval, and than a refreshAfter of the policy,
//     means done
//  4. parse the attributes and the Secret
//  5. ask the policy
//  6. fetch, before anything on the node is touched
//  7. store: the new set replaces the old one as a whole, or the old one stays
//  8. answer
//
// NodeUnpublishVolume is: check, lock, unmount, remove. No call needs anything that an earlier one left in this process, so
// it may restart between any two calls.
//
// # A volume that cannot be refreshed
//
// A running pod is better served by secrets of five minutes ago than by an error, and the kubelet answers an error with more
// calls. So on a target that holds a complete set, every failure of steps 4 to 7 answers OK while the set is younger than
// three intervals, or younger than five minutes if that is longer. It is logged once, counted, and reported by
// NodeGetVolumeHealth. An older set answers Unavailable with the same text, which the kubelet shows as an event of the pod;
// the files stay. A set from the future (the clock was set back) counts as old. A call that the kubelet has canceled, or
// that is past its deadline, is not a failed refresh.
//
// # Logs
//
// Requests carry tokens and client secrets. Only the method, the volume, its target, the pod's namespace and name, the
// duration, the code and the error are logged, at any verbosity; by the rules of package volume an error holds no secret.
//
// The package must not know Azure, mounts or files. It reaches them through [Fetcher], [Policy] and [Store].
package driver
