package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyvault-csi/keyvault-csi/pkg/devcloud"
	"github.com/keyvault-csi/keyvault-csi/pkg/provider/v1alpha1"
	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// provider measures the calls of the Secrets Store CSI Driver: the first mounts of pods with one SecretProviderClass of ten secrets, and
// its polls within and after the interval. That driver's own work, such as writing the files and the calls to the API server, is not there.
func (b *bench) provider(ctx context.Context) error {
	t := newTable(fmt.Sprintf("Mount of %d pods, one after another", b.mounts), "p50 ms", "p99", "all s", "CPU s", "vault requests", "token requests")
	for _, delay := range []time.Duration{0, far} {
		if err := b.provide(ctx, t, delay); err != nil {
			return err
		}
	}
	how := "the polls after the interval are not in a quick run, which does not wait for it"
	if b.waitForRotation {
		how = "after the polls that follow the interval, every pod had the new values"
	}
	t.write(b.out, fmt.Sprintf("As the provider of the Secrets Store CSI Driver: ten secrets, one identity, interval %s", rotationInterval),
		"vault and login on loopback, or "+far.String()+" away; vault requests count the challenge; "+how)
	return nil
}

// provide measures with one distance of the cloud.
func (b *bench) provide(ctx context.Context, t *table, delay time.Duration) error {
	const objects = 10
	n, err := node.Start(ctx, node.Options{Provider: true, Flags: []string{"--rotation-interval=" + rotationInterval.String()}})
	if err != nil {
		return err
	}
	defer n.Close()
	setSecrets(n, objects, 'a')
	if err := warmUpCloud(ctx, n); err != nil {
		return err
	}
	if _, err := n.Cloud.Inject(devcloud.Fault{Action: devcloud.Delay, Delay: delay}); delay > 0 && err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+n.ProviderSocket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	m := &mounts{node: n, provider: v1alpha1.NewCSIDriverProviderClient(conn)}
	if err := m.prepare(ctx, b.mounts, objects); err != nil {
		return err
	}
	round := func(name string, first rune) error {
		cells, err := m.round(ctx, first)
		t.add(append([]string{fmt.Sprintf("%s, %s", name, delay)}, cells...)...)
		return err
	}
	if err := round("the first", 'a'); err != nil {
		return err
	}
	began := time.Now()
	if err := round("polls inside the interval", 'a'); err != nil || !b.waitForRotation {
		return err
	}
	setSecrets(n, objects, 'A')
	// An object is due at a random time of up to a twentieth after its interval, and the first poll waits for it.
	if err := pause(ctx, time.Until(began.Add(rotationInterval+rotationInterval/20))); err != nil {
		return err
	}
	return round("polls after it, every secret has changed", 'A')
}

// mounts are the pods of one class, with the calls that the driver makes for them.
type mounts struct {
	node     *node.Node
	provider v1alpha1.CSIDriverProviderClient
	requests []*v1alpha1.MountRequest
}

func (m *mounts) prepare(ctx context.Context, pods, objects int) error {
	list := strings.Builder{}
	list.WriteString("array:\n")
	for i := range objects {
		fmt.Fprintf(&list, "- |\n  objectName: %s\n  objectType: secret\n", secretName(i))
	}
	for i := range pods {
		request, err := m.node.MountRequest(ctx, node.Class(fmt.Sprint("mounted-", i), "objects", list.String()))
		if err != nil {
			return err
		}
		m.requests = append(m.requests, request)
	}
	return nil
}

// round calls for every pod once, and checks that the values begin with the letter. It returns the cells of a row.
func (m *mounts) round(ctx context.Context, first rune) ([]string, error) {
	var took samples
	before, cloud := time.Now(), requestsOf(m.node.Cloud)
	cpu, err := cpuOf(m.node.PID())
	if err != nil {
		return nil, err
	}
	for _, request := range m.requests {
		began := time.Now()
		response, err := m.provider.Mount(ctx, request)
		took = append(took, time.Since(began))
		if err != nil {
			return nil, fmt.Errorf("mount: %w", err)
		}
		if got := string(response.GetFiles()[0].GetContents()); !strings.HasPrefix(got, string(first)) {
			return nil, fmt.Errorf("%s has not the new value", response.GetFiles()[0].GetPath())
		}
		request.CurrentObjectVersion = response.GetObjectVersion()
	}
	all := time.Since(before)
	used, err := cpuOf(m.node.PID())
	asked := requestsOf(m.node.Cloud).since(cloud)
	return []string{
		ms(took.median()), ms(took.quantile(.99)), fmt.Sprintf("%.2f", all.Seconds()), fmt.Sprintf("%.2f", (used - cpu).Seconds()),
		fmt.Sprint(asked.vault), fmt.Sprint(asked.token),
	}, err
}
