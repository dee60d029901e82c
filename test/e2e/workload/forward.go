package main

import (
	"context"
	"io"
	"net"
)

// forward forwards connections from an address, until the process ends. A pod in the node's network uses it to serve the dev cloud's metadata
// service at the real address.
func forward(from, to string) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", from)
	if err != nil {
		return err
	}
	for {
		near, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = near.Close() }()
			far, err := new(net.Dialer).Dial("tcp", to)
			if err != nil {
				return
			}
			defer func() { _ = far.Close() }()
			go func() { _, _ = io.Copy(far, near); _ = far.(*net.TCPConn).CloseWrite() }()
			_, _ = io.Copy(near, far)
		}()
	}
}
