// Package values makes the content of files from the values of secrets: a field of a JSON value, and a file of several
// values. It does not know vaults, paths or whose values these are. Its errors never hold a value.
package values
