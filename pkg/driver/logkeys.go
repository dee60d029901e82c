package driver

// The keys of structured log lines. "pod" has the form that Kubernetes components use: namespace/name.
const (
	keyMethod   = "method"
	keyVolumeID = "volumeID"
	keyTarget   = "target"
	keyPod      = "pod"
	keyCode     = "code"
	keyDuration = "duration"
	keyVersion  = "version"
	keyName     = "name"
	keyNode     = "node"
	keyEndpoint = "endpoint"
	keyAddress  = "address"
	keyChanged  = "changed"
	keyStale    = "stale"
	keyType     = "type"
	keyStack    = "stack"
	keyFound    = "found"
	keyReason   = "reason"
)

// The levels of log lines. What an operator must know is level 0: failures, and the beginning and end of a volume.
const (
	levelCalls = 4 // each call about a volume
	levelQuiet = 6 // each call that only asks: probes, capabilities
)
