package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/aymanbagabas/go-udiff"

	"github.com/keyvault-csi/keyvault-csi/pkg/migrate"
)

const migrateUsage = `kvcsi migrate reads manifests whose pods use the init container acs-keyvault-agent, or a SecretProviderClass of the
Azure provider of the Secrets Store CSI Driver, and writes the same manifests with a volume of this driver. Everything
else in them stays as it is, byte for byte. What it does not understand it reports on standard error, with file and line,
and ends with exit code 3. Placeholders such as {{ .Values.vault }} and ${VAULT} are carried over. Files that are made by
Helm or kustomize:

  helm template . | kvcsi migrate -f -          kustomize build . | kvcsi migrate -f -
  kubectl get deployments,secretproviderclasses -o yaml | kvcsi migrate -f -

Usage: kvcsi migrate -f FILE|FOLDER|- [-f ...] [FLAGS]

Exit code: 0 if everything is carried over, 3 if something is not, 2 for a wrong command line, 1 for other errors.

Flags:
`

// runMigrate prints the new manifests, or what changes, or changes the files.
func runMigrate(_ context.Context, c command) (exitCode int, err error) {
	var names manifestNames
	var options migrate.Options
	c.flags.Var(&names, "f", "`file` or folder with manifests, or - for standard input; may be repeated")
	c.flags.StringVar(&options.Container, "container", "", "`name` of the init container of the agent, if its image, command and variables do not show it")
	c.flags.BoolVar(&options.RemoveClasses, "remove-classes", false, "remove a SecretProviderClass from the files when all its pods are migrated; pods in other files may use it")
	c.flags.StringVar(&options.SyncImage, "sync-image", "", "`image` of keyvault-csi-sync: add it for the Secrets that a SecretProviderClass makes (secretObjects), so that their readers stay as they are")
	diff := c.flags.Bool("diff", false, "print what changes, as a unified diff")
	write := c.flags.Bool("write", false, "change the files in place")
	report := c.flags.String("report", "text", "`form` of the report on standard error: text or json")
	if code, err := c.parse(func() { c.printHelp(c.stderr, migrateUsage) }); code != parsed {
		return code, err
	}
	switch {
	case len(names) == 0:
		return exitUsage, errNoManifests
	case *report != "text" && *report != "json":
		return exitUsage, fmt.Errorf("--report %q is neither text nor json", *report)
	case *write && slices.Contains(names, "-"):
		return exitUsage, errors.New("--write changes files and cannot go with -f -")
	}
	files, err := names.read(c.stdin)
	if err != nil {
		return exitError, err
	}
	result, err := migrate.Migrate(files, options)
	if err != nil {
		return exitError, err
	}
	failure := writeResult(files, result.Files, *diff, *write, c.stdout) // the report is about the files that it has written, too
	for _, finding := range result.Findings {
		if finding.Level > migrate.Note {
			exitCode = exitIncomplete
		}
	}
	if failure != nil {
		exitCode = exitError
	}
	if *report == "json" {
		return exitCode, errors.Join(reportJSON(result, c.stderr), failure)
	}
	reportText(c.flags.Name(), result, c.stderr)
	return exitCode, failure
}

// writeResult prints the new manifests or the changes, or writes the files.
func writeResult(before, after []migrate.File, diff, write bool, stdout io.Writer) error {
	var out bytes.Buffer
	for i, file := range after {
		changed := !bytes.Equal(before[i].Data, file.Data)
		if diff && changed {
			out.WriteString(udiff.Unified(file.Name, file.Name, string(before[i].Data), string(file.Data)))
		}
		if write && changed {
			if err := overwrite(file); err != nil {
				return err
			}
		}
		if diff || write || len(bytes.TrimSpace(file.Data)) == 0 {
			continue
		}
		if out.Len() > 0 && !bytes.HasPrefix(file.Data, []byte("---")) {
			out.WriteString("---\n")
		}
		out.Write(file.Data)
		if last := len(file.Data) - 1; i < len(after)-1 && last >= 0 && file.Data[last] != '\n' {
			out.WriteByte('\n')
		}
	}
	_, err := stdout.Write(out.Bytes())
	return err
}

// overwrite keeps the file itself, with its mode and owner, also behind a link.
func overwrite(file migrate.File) error {
	f, err := os.OpenFile(file.Name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(file.Data)
	return errors.Join(err, f.Close())
}
