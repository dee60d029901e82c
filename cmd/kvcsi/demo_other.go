//go:build !linux

package main

import (
	"context"
	"errors"
	"runtime"
)

// runDemo cannot run where the driver cannot.
func runDemo(context.Context, command) (exitCode int, err error) {
	return exitError, errors.New("the demo mounts a tmpfs, which " + runtime.GOOS + " does not have: run it on Linux")
}
