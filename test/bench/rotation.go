package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyvault-csi/keyvault-csi/internal/aging"
)

// rotation counts the requests of many volumes: at their start, at the kubelet's calls within the rotation interval, and at its calls after
// the interval, when every secret has a new value.
func (b *bench) rotation(ctx context.Context) error {
	const objects = 10
	n, err := startNode(ctx, "--rotation-interval="+rotationInterval.String())
	if err != nil {
		return err
	}
	defer n.Close()
	accounts, err := newAccounts(n, b.identities)
	if err != nil {
		return err
	}
	var pods []*pod
	for i := range b.rotated {
		p, err := newPodOf(ctx, n, accounts[i%len(accounts)], fmt.Sprint("rotated-", i), secrets(objects))
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	v := &volumes{bench: b, node: n, pods: pods}
	t := newTable("every volume once", "s", "CPU s", "vault requests", "of these 401", "token requests")
	round := func(name string) (cost, error) {
		c, err := v.round(ctx)
		t.add(name, fmt.Sprintf("%.2f", c.took.Seconds()), fmt.Sprintf("%.2f", c.cpu.Seconds()),
			fmt.Sprint(c.vault), fmt.Sprint(c.challenge), fmt.Sprint(c.token))
		return c, err
	}
	if _, err := round("first publish"); err != nil {
		return err
	}
	published := time.Now()
	inside, err := round("republish inside the interval")
	if err != nil {
		return err
	}
	setSecrets(n, objects, 'A')
	how := "the volumes were made to look older"
	if b.waitForRotation {
		how = "waited for"
		err = pause(ctx, time.Until(published.Add(rotationInterval)))
	} else {
		err = v.age(rotationInterval)
	}
	if err != nil {
		return err
	}
	after, err := round("republish after it, every secret has changed")
	if err != nil {
		return err
	}
	if err := v.rotated('A'); err != nil {
		return err
	}
	again, err := round("and once more")
	if err != nil {
		return err
	}
	t.write(b.out, fmt.Sprintf("Rotation: %d volumes of %d secrets, %d identities, interval %s, %s", len(pods), objects, len(accounts), rotationInterval, how),
		"after the rotation every volume was found to hold the new values")
	b.goals.record(goalRotation, after.vault <= objects*len(accounts) && inside.vault+again.vault == 0,
		"%d vault requests; inside the interval %d (%d volumes)", after.vault, inside.vault+again.vault, len(pods))
	return nil
}

// rotationInterval is the shortest of a volume.
const rotationInterval = 30 * time.Second

// age makes all volumes look older than the interval.
func (v *volumes) age(interval time.Duration) error {
	for _, p := range v.pods {
		if err := aging.Set(p.request.GetTargetPath(), time.Now().Add(-interval-time.Minute)); err != nil {
			return err
		}
	}
	return nil
}

// rotated checks that the volumes have the values of setSecrets.
func (v *volumes) rotated(first rune) error {
	want := strings.Repeat(string(first), valueSize)
	for _, p := range v.pods {
		path := filepath.Join(p.request.GetTargetPath(), secretName(0))
		got, err := os.ReadFile(path) //nolint:gosec // G304: below our own folder
		if err != nil {
			return err
		}
		if string(got) != want {
			return fmt.Errorf("%s was not rotated", path)
		}
	}
	return nil
}
