// Package cache keeps the last answers of vaults, one entry for each object and identity. Callers that want the same
// object at the same time share one fetch.
//
// A value that one identity has read is never given to another. The identity is part of the [Key]. The caller chooses
// it so that equal identities could log in as each other.
//
// Three rules decide how long an entry is used:
//
//   - Freshness: a first mount takes a value younger than [Options.MountMaxAge], or read since the mount was first
//     tried. A refresh takes one younger than its volume's interval and newer than what the volume has; with
//     [Demand.Listed] a value is as young as the last list that shows it, see [Cache.Keep]. A pinned version cannot
//     change, so its age does not matter. While the vault limits the requests of the node, a refresh also takes older
//     ones, see [Demand.Late] and [Cache.Late]. [Demand.NotBefore] excludes older answers from all of these, and from
//     the last known ones.
//   - Failures: a failed fetch answers the next ones for two seconds after a refusal, and for 10 to 30 seconds after
//     an outage. A refusal removes the value. That an optional object is absent is known for as long as a value would be.
//   - Retention: a value is dropped when it is older than the longest of [Options.MountMaxAge],
//     [Options.LastKnownGood], the interval of the volumes that use it plus [CallTime], and [LateTime] while the vault
//     limits the requests of the node. It is as young as the last list that shows it. A pinned version counts from its
//     last use instead. After the last volume of an identity is gone, the intervals no longer count, see
//     [Cache.Depart]. Beyond [Options.Bytes] the least recently used value is dropped first.
//
// The package does not know what a value is, which service it comes from, or how an identity logs in.
package cache
