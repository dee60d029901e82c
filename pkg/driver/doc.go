// Package driver translates the Container Storage Interface into the vocabulary of package volume, and back.
//
// The kubelet calls NodePublishVolume when a pod starts and again every 60 to 90 seconds while it runs
// (CSIDriver.spec.requiresRepublish), each time with fresh tokens. One call is eight steps:
//
//  1. check the CSI fields
//  2. claim the target, so that a second call for it is refused and not queued
//  3. ask the store how old the set at the target is; younger than its interval means done
//  4. parse the attributes and the Secret
//  5. ask the policy
//  6. fetch, before anything on the node is touched
//  7. store: the new set replaces the old one as a whole, or the old one stays
//  8. answer
//
// NodeUnpublishVolume is: check, claim, unmount, remove. Nothing lives in this process that a later call needs, so a
// restart between any two calls is not noticed.
//
// # A volume that cannot be refreshed
//
// A pod that runs is better served by the secrets of five minutes ago than by an error, and the kubelet answers an
// error with more calls. So on a target that holds a complete set every failure of steps 4 to 7 answers OK while the
// set is younger than three intervals and at least five minutes; it is logged once, counted, and told by
// NodeGetVolumeHealth. An older set answers Unavailable with the same text, which the kubelet shows as an event on
// the pod; the files stay in either case. A set from the future (the clock was stepped back) counts as old.
//
// A call whose caller has gone (canceled, or past its deadline) is no failed refresh: it answers the error of its own
// context and leaves no trace. The kubelet waits longer than a volume's timeout may be, so it does not hide one.
//
// # Three servers
//
// [Driver.Run] serves CSI on a unix socket; then, when that socket answers a Probe, the kubelet's plugin registration
// on another; and health and metrics over HTTP. When its context ends it withdraws the registration, stops accepting,
// gives the calls in flight 20 seconds (the kubelet gives a pod 30) and then cancels them.
//
// # What is logged
//
// Requests carry service account tokens and client secrets, so no request is ever logged as a whole, at any
// verbosity: only the method, the volume, its target, the pod's namespace and name, the duration, the code and the
// text of the error, which by the rules of package volume holds no secret. A panic is logged without its value.
//
// The package knows nothing of Azure, of mounts or of files: what it needs of them are the interfaces [Fetcher],
// [Policy] and [Store].
package driver
