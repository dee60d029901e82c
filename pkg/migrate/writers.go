package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// writes searches the commands of a container for one that writes below the mount, and returns its program or option, or
// nothing. It knows only the usual ways to write in shell; what it misses fails on the read-only volume. It returns no
// more of the command, which may hold a password.
func writes(c container, m mount) (how string) {
	if m.readOnly {
		return ""
	}
	var script []string
	for _, field := range [][]string{
		{"command"}, {"args"}, {"lifecycle", "postStart", "exec", "command"}, {"lifecycle", "preStop", "exec", "command"},
	} {
		script = append(script, texts(get(c.node, field...))...)
	}
	text := strings.Join(script, " ")
	nodes, _ := items(get(c.node, "env"))
	for _, node := range nodes {
		if name, value := text1(get(node, "name")), text1(get(node, "value")); name != "" && value != "" {
			text = strings.NewReplacer("$("+name+")", value, "${"+name+"}", value, "$"+name+" ", value+" ", "$"+name+"/", value+"/").Replace(text)
		}
	}
	folder := path.Clean(text1(get(c.node, "workingDir")))
	for _, line := range command.Split(text, -1) {
		words := strings.FieldsFunc(redirect.ReplaceAllString(line, " >$1 "), func(r rune) bool { return strings.ContainsRune(" \t\r\n\"'(){}", r) })
		if at := program(words); at+1 < len(words) && words[at] == "cd" {
			folder = absolute(words[at+1], folder)
		}
		if how := writesTo(words, folder, m.path); how != "" {
			return how
		}
	}
	return ""
}

var (
	command    = regexp.MustCompile(`&&|\|\||[;|\n]|(?:^|\s)(?:then|do|else)\s`)
	redirect   = regexp.MustCompile(`>{1,2}\|?(&?)`)
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*=`)
)

func absolute(p, folder string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(folder, p)
}

// The programs that write to every argument, or to the last one; the options that name an output; and the words that can
// stand before a program.
var (
	writeAll  = []string{"touch", "mkdir", "rm", "rmdir", "chmod", "chown", "chgrp", "tee", "truncate", "mv", "shred"}
	writeLast = []string{"cp", "install", "ln", "rsync", "scp"}
	outputs   = []string{"-out", "-keyout", "-o", "--output", "-O", "-destkeystore", "--target-directory", "--output-document"}
	wrappers  = []string{"sh", "bash", "ash", "dash", "busybox", "sudo", "exec", "env", "xargs", "nice", "time", "command", "!"}
)

// program returns the index of the word that is run.
func program(words []string) int {
	for i, word := range words {
		if !slices.Contains(wrappers, path.Base(word)) && !strings.HasPrefix(word, "-") && !assignment.MatchString(word) {
			return i
		}
	}
	return len(words)
}

// writesTo reads one simple command.
func writesTo(words []string, folder, mount string) (how string) {
	inside := func(word string) bool {
		if word == "" || !path.IsAbs(word) && !path.IsAbs(folder) {
			return false
		}
		_, ok := below(absolute(word, folder), mount)
		return ok
	}
	at := program(words)
	var arguments []string
	for i, word := range words {
		switch option, target := output(words, i); {
		case target != "":
			if inside(target) {
				return option
			}
		case i > at && !strings.HasPrefix(word, "-") && word != ">" && word != ">&":
			arguments = append(arguments, word)
		}
	}
	if len(arguments) == 0 {
		return ""
	}
	name := path.Base(words[at])
	if writesAll(name, words) && slices.ContainsFunc(arguments, inside) {
		return name
	}
	if slices.Contains(writeLast, name) && inside(arguments[len(arguments)-1]) {
		return name
	}
	return ""
}

// output returns the file that a word names as an output, and what makes it one: ">", "-out", "of=".
func output(words []string, i int) (option, file string) {
	if i > 0 && (words[i-1] == ">" || slices.Contains(outputs, words[i-1])) {
		return words[i-1], words[i]
	}
	name, value, _ := strings.Cut(words[i], "=")
	if value != "" && (name == "of" || slices.Contains(outputs, name)) {
		return name + "=", value
	}
	return "", ""
}

// writesAll reports whether a command writes to all files that it names.
func writesAll(name string, words []string) bool {
	has := func(flags ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool {
			return slices.ContainsFunc(flags, func(flag string) bool { return strings.HasPrefix(word, flag) })
		})
	}
	switch name {
	case "unzip":
		return true
	case "sed":
		return has("-i", "--in-place")
	case "keytool":
		return has("-import", "-gen", "-delete")
	case "tar":
		return has("x", "-x", "--extract")
	}
	return slices.Contains(writeAll, name)
}
