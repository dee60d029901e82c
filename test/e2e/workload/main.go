// Workload is the program of the tests' image: a pod with a volume, and the tests' agent on the node. The tests call it over HTTP through the
// API server.
//
//	workload hold [-pair CERT,KEY] [-volume DIR]    a container that waits, and serves its files, mounts, environment and signals
//	workload node                     a privileged pod in the node's process namespace
//	workload forward FROM TO          TCP from one address, which the node must have, to another
//	workload print FILE               a file on standard output
//	workload copy FROM TO             a file for the other containers of the pod
//	workload remount DIR              tries to make a mount writable; prints the successful attempts as JSON
//	workload exit                     nothing; for an init container without work
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "hold":
		err = hold(os.Args[2:])
	case "node":
		err = node()
	case "forward":
		err = forward(os.Args[2], os.Args[3])
	case "print":
		var data []byte
		if data, err = os.ReadFile(os.Args[2]); err == nil { //nolint:gosec // G703: the file to print
			_, err = os.Stdout.Write(data)
		}
	case "copy":
		var data []byte
		if data, err = os.ReadFile(os.Args[2]); err == nil { //nolint:gosec // G703: the file to copy
			err = os.WriteFile(os.Args[3], data, 0o600) //nolint:gosec // G703: see above
		}
	case "remount":
		err = json.NewEncoder(os.Stdout).Encode(remount(os.Args[2]))
	case "exit":
	default:
		err = fmt.Errorf("workload: no command %q", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// listen serves mux on port 8080 until SIGTERM, and then ends at once, so that no test waits.
func listen(mux *http.ServeMux) error {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	failed := make(chan error, 1)
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-end:
		return nil
	}
}

// answer makes a handler of a function. Its error is the text of the answer, with status 500.
func answer[T any](look func(r *http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		found, err := look(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(found)
	}
}
