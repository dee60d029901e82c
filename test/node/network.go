package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The daemon connects to the node's metadata service at its fixed address in Azure, without TLS or proxy. To serve that address, tests
// run in a network namespace of their own, which has only a loopback interface with that address. There they can also listen on
// every port.

// MetadataAddress is that of Azure's instance metadata service.
const MetadataAddress = "169.254.169.254"

// ownNetwork is an environment variable. It is "inside" in the network namespace, else the reason why there is none.
const ownNetwork = "KEYVAULT_CSI_TEST_NETWORK"

const inside = "inside"

// Networked is for TestMain, inside [mountns.Main]. It runs the tests of M in a network namespace, or where the machine forbids that in
// the network of the machine, see NoNetwork.
type Networked struct {
	M interface{ Run() int }

	// WithoutIPv4: the namespace has the address ::1 and no other.
	WithoutIPv4 bool
}

// Run implements the interface that mountns.Main wants.
func (n Networked) Run() int {
	if os.Getenv(ownNetwork) == "" {
		err := n.enter() // does not return when all is well
		if os.Getenv("CI") != "" {
			fmt.Fprintln(os.Stderr, "a network for the tests:", err)
			return 1
		}
		_ = os.Setenv(ownNetwork, err.Error())
	}
	return n.M.Run()
}

// NoNetwork is the reason why the tests have no network namespace; empty when they have one.
func NoNetwork() string {
	switch why := os.Getenv(ownNetwork); why {
	case inside:
		return ""
	case "":
		return "TestMain did not ask for one"
	default:
		return why
	}
}

// enter makes a network namespace for this thread and starts the program again from it. After execve the whole process is in
// the namespace of the thread that called it.
func (n Networked) enter() error {
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	addresses := n.addresses
	if n.WithoutIPv4 {
		addresses = n.addressOfIPv6
	}
	if err := addresses(); err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), ownNetwork+"="+inside))
}

func (Networked) addresses() error {
	if err := loopback("lo", [4]byte{127, 0, 0, 1}); err != nil {
		return err
	}
	return loopback("lo:0", [4]byte{169, 254, 169, 254})
}

// addressOfIPv6 brings the loopback interface up. The kernel then gives it 127.0.0.1 and ::1; addressOfIPv6 removes the first.
func (Networked) addressOfIPv6() error {
	const disabled = "/proc/sys/net/ipv6/conf/lo/disable_ipv6" // a new namespace may have it from the machine
	if off, err := os.ReadFile(disabled); err != nil || off[0] != '0' {
		if err := errors.Join(err, os.WriteFile(disabled, []byte("0"), 0)); err != nil {
			return fmt.Errorf("switch IPv6 on: %w", err)
		}
	}
	if err := loopback("lo", [4]byte{127, 0, 0, 1}); err != nil {
		return err
	}
	return loopback("lo", [4]byte{})
}

// loopback sets the address of the loopback interface and brings it up. 0.0.0.0 takes its address away.
func loopback(name string, address [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := request.SetInet4Addr(address[:]); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}

// FreeAddress is an address of the loopback interface on which nobody listens now. Its port is below those that Linux gives to
// outgoing connections (net.ipv4.ip_local_port_range), one of which could take it while the daemon restarts.
func FreeAddress(ctx context.Context) (string, error) {
	const first, after = 10_000, 32_768
	var config net.ListenConfig
	var l net.Listener
	var err error
	for range 100 {
		port := strconv.Itoa(first + rand.IntN(after-first)) //nolint:gosec // G404: any number
		l, err = config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		if errors.Is(err, syscall.EADDRNOTAVAIL) { // without IPv4
			l, err = config.Listen(ctx, "tcp", net.JoinHostPort("::1", port))
		}
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}
