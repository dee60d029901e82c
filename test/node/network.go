package node

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The daemon asks the node's metadata service at the one address that it has in Azure, in clear text and past every
// proxy. So that a test can answer there, it runs in a network of its own, which has nothing but a loopback interface,
// with that address on it. There it can also listen on every port.

// MetadataAddress is that of Azure's instance metadata service.
const MetadataAddress = "169.254.169.254"

// ownNetwork is the environment variable by which the tests know that they are inside; else it holds the reason why not.
const ownNetwork = "KEYVAULT_CSI_TEST_NETWORK"

const inside = "inside"

// Networked is for TestMain, inside [mountns.Main]: it runs the tests of M in a network of their own, or where the
// machine forbids that in the one that is there. NoNetwork tells which.
type Networked struct{ M interface{ Run() int } }

// Run implements the interface that mountns.Main wants.
func (n Networked) Run() int {
	if os.Getenv(ownNetwork) == "" {
		err := enterNetwork() // does not return when all is well
		if os.Getenv("CI") != "" {
			fmt.Fprintln(os.Stderr, "a network for the tests:", err)
			return 1
		}
		_ = os.Setenv(ownNetwork, err.Error())
	}
	return n.M.Run()
}

// NoNetwork says why the tests have no network of their own; empty when they have one.
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

// enterNetwork makes the network for this thread and starts the program anew from it: the process that execve leaves
// is that of the calling thread.
func enterNetwork() error {
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := loopback("lo", [4]byte{127, 0, 0, 1}); err != nil {
		return err
	}
	if err := loopback("lo:0", [4]byte{169, 254, 169, 254}); err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), ownNetwork+"="+inside))
}

// loopback gives the loopback interface an address and switches it on.
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
