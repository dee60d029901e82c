// Package reads decides which objects of a request are read, when and from where, and reads them. A [Client] does it for all
// volumes of a node, a [Fetch] for one request of a volume:
//
//  1. [Client.Begin] finds out whose values may be used (client.go), and what the node may ask of the vaults that limit its
//     requests (share.go).
//  2. [Fetch.CheckPolicy] asks the operator's policy about the identity that answers (fetch.go).
//  3. [Fetch.Expand] replaces selections and histories by the objects that there are (expand.go).
//  4. [Fetch.Run] plans the distinct reads (plan.go), and does them with limited concurrency, so that the error is always of the
//     same object (run.go).
//  5. A refresh lists what may be unchanged, if that costs less (changes.go, unlisted.go).
//  6. One read is answered from the cache, or joins the fetch of another caller, or begins one. A new pod proves itself before
//     that (read.go).
//  7. The fetch asks the vault for its challenge, the login for a token, and the vault for the object (ask.go).
//  8. A failure becomes one line: the object, who answered what, and what to do (explain.go).
//  9. [Fetch.Ages] says how old the answers are (fetch.go).
//
// Values go to [Take] as soon as they are read, and are not kept: only the cache keeps them (value.go).
//
// Package cache knows how long a value is fresh, package login how an identity logs in, and package vault what a request is. This
// package does not know what becomes of a value. It knows no files, and of certificates only which contents are certificates, and that
// equal values share the decoded certificate.
package reads
