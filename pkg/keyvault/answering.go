package keyvault

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// errAnotherAnswers: the metadata service gave a token of another identity than the one that answered for the same login
// before. It does where none is named and the node's identities have changed.
var errAnotherAnswers = errors.New("another identity answers than before")

// permit asks for the policy's last word where there is one: whether whoever answers for the identity may be used. From
// then on the errand is about that identity alone: what is kept in the cache was read by it, and so is what is fetched.
func (c *Client) permit(ctx context.Context, e *errand) error {
	if e.Permit == nil || len(e.Objects) == 0 {
		return nil
	}
	who, failed := c.answering(ctx, e.Request)
	if failed != nil {
		return c.explain(ctx, e, e.Objects[0], failed)
	}
	if err := e.Permit(who); err != nil {
		return err
	}
	e.belongTo(c, who)
	return nil
}

// answering gives whom the identity of a request turns out to be. A login of the node's metadata service that has had a
// token stays with whom that speaks for, also when the service cannot be reached.
func (c *Client) answering(ctx context.Context, r volume.Request) (volume.Principal, *failure) {
	if loginOf(r.Identity) != byMetadata {
		return volume.Principal{ClientID: r.Identity.ClientID}, nil // who has its secret is nobody else
	}
	why := &failure{waited: matter{identity: r.Identity}.authority()}
	session, err := c.session(r, "", r.Objects[0].Vault)
	if err != nil {
		why.err = errNoLogin
		return volume.Principal{}, why
	}
	if who, ok := session.login.principal(); ok {
		return who, nil
	}
	if _, err := session.login.GetToken(ctx, noClaims()); err != nil {
		if reason := session.login.throttled(); reason != nil && errors.Is(err, context.DeadlineExceeded) {
			err = reason
		}
		why.err = err
		return volume.Principal{}, why
	}
	who, _ := session.login.principal()
	return who, nil
}

// principal is whom the tokens of a login speak for; false where that is not known, or is not to be read in a token.
func (l *login) principal() (who volume.Principal, known bool) {
	if c, ok := l.inner.(*metadataCredential); ok {
		if who := c.principal.Load(); who != nil {
			return *who, true
		}
	}
	return volume.Principal{}, false
}

// superseded says that a login is of no use any more, because somebody else answers now.
func (l *login) superseded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Is(l.failed, errAnotherAnswers)
}

// bound says whether the login, which holds a token, is of whom the errand was permitted to be.
func (e *errand) bound(l *login) bool {
	who, known := l.principal()
	return e.who == nil || !known || who == *e.who
}

// stays refuses a token that does not speak for whom the first one did.
func (c *metadataCredential) stays(token string) error {
	who := principalOf(token)
	if !c.principal.CompareAndSwap(nil, &who) && *c.principal.Load() != who {
		return errAnotherAnswers
	}
	return nil
}

// principalOf reads in an access token of Entra ID whom it speaks for. Nobody verifies it here: it is sent to a vault, which
// does.
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
func principalOf(token string) volume.Principal {
	claims := jwt.MapClaims{} // the names of claims are case-sensitive, and those of struct fields are not to encoding/json
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		return volume.Principal{}
	}
	text := func(claim string) string {
		if said, ok := claims[claim].(string); ok && isPrintable(said) {
			return strings.ToLower(said)
		}
		return ""
	}
	return volume.Principal{ClientID: cmp.Or(text("appid"), text("azp")), ObjectID: text("oid"), ResourceID: text("xms_mirid")}
}
