package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyvault-csi/keyvault-csi/test/node"
)

// start measures a new daemon: its size, its memory, and the time until it answers a Probe.
func (b *bench) start(ctx context.Context) error {
	binary, err := node.DaemonBinary(ctx)
	if err != nil {
		return err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	var nothing, served samples
	for range b.starts {
		started := time.Now()
		if err := exec.CommandContext(ctx, binary, "--version").Run(); err != nil { //nolint:gosec // G204: the daemon under test
			return err
		}
		nothing = append(nothing, time.Since(started))
		d, err := coldStart(ctx, binary)
		if err != nil {
			return err
		}
		served = append(served, d)
	}
	n, err := startNode(ctx)
	if err != nil {
		return err
	}
	defer n.Close()
	idle, err := b.settled(ctx, n.PID())
	if err != nil {
		return err
	}
	t := newTable("the daemon by itself", "measured", "to be at most")
	t.add("size of the stripped binary", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), "20 MB")
	t.add("memory (RSS), idle after its start", fmt.Sprintf("%.1f MB", float64(idle.rss)*1024/1e6), "25 MB")
	t.add("fork to the first Probe answered, median", ms(served.median())+" ms", "200 ms")
	t.add("the same, least", ms(served.quantile(0))+" ms", "")
	t.add("fork to the end of --version, median", ms(nothing.median())+" ms", "")
	t.write(b.out, fmt.Sprintf("Start, %d times", b.starts))
	return nil
}

// coldStart starts a daemon and returns the time until it answers a Probe. It waits for the socket with a poll every millisecond, because
// a gRPC client without a socket would back off.
func coldStart(ctx context.Context, binary string) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "cold")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "csi.sock")
	daemon := exec.CommandContext(ctx, binary, //nolint:gosec // G204: the daemon under test
		"--endpoint=unix://"+socket, "--node-id=node-1", "--kubelet-root="+dir, "--http-address=127.0.0.1:0")
	started := time.Now()
	if err := daemon.Start(); err != nil {
		return 0, err
	}
	exited := make(chan struct{})
	go func() {
		_ = daemon.Wait()
		close(exited)
	}()
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGKILL)
		<-exited
	}()
	if err := awaitSocket(ctx, socket, exited); err != nil {
		return 0, err
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true)); err != nil {
		return 0, fmt.Errorf("probe: %w", err)
	}
	return time.Since(started), nil
}

func awaitSocket(ctx context.Context, socket string, exited <-chan struct{}) error {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		var dialer net.Dialer
		if conn, err := dialer.DialContext(ctx, "unix", socket); err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-exited:
			return errors.New("the daemon ended before it served")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
