// Package cache keeps what vaults answered last, one entry for each object and identity, and lets all callers that want
// the same object at the same time share one fetch.
//
// What one identity was given is never shown to another: the identity is part of the [Key], and its owner chooses it so
// that whoever has the same could log in as the same.
//
// Three rules say what an entry is good for:
//
//   - Freshness: a first mount takes a value younger than [Options.MountMaxAge]. A refresh takes one younger than its
//     volume's interval and newer than what the volume has; a pinned version cannot change, so its age does not matter.
//   - Failures: a failed fetch answers for the next ones for two seconds after a refusal and for 10 to 30 seconds when
//     nobody answered. A refusal takes away the value that was known before.
//   - Retention: a value goes when it is older than the longest of [Options.MountMaxAge], [Options.LastKnownGood], and the
//     interval of the volumes that asked for it plus [CallTime]. A pinned version counts from its last use instead. When
//     the last volume of an identity is gone, the intervals no longer count, see [Cache.Depart]. Beyond
//     [Options.Bytes] the value that was used longest ago goes first.
//
// The package does not know what a value is, who is asked for it, or how an identity logs in.
package cache
