#!/bin/sh
# Prints what OpenSSL says a PKCS#12 file holds: the key (PKCS#8), the certificate of that key, the others in the order
# of the file. Usage: describe.sh FILE.pfx
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
legacy=
openssl pkcs12 -in "$1" -passin pass: -nokeys -noout 2>/dev/null || legacy=-legacy
openssl pkcs12 -in "$1" -passin pass: -nocerts -nodes $legacy 2>/dev/null | openssl pkey >"$dir/key"
openssl pkey -in "$dir/key" -pubout >"$dir/public"
openssl pkcs12 -in "$1" -passin pass: -nokeys $legacy 2>/dev/null |
	awk -v dir="$dir" '/BEGIN CERT/{n++; on=1} on{print > sprintf("%s/cert-%02d", dir, n)} /END CERT/{on=0}'
cat "$dir/key"
for leaf in yes no; do
	for cert in "$dir"/cert-*; do
		mine=no
		openssl x509 -in "$cert" -noout -pubkey | cmp -s - "$dir/public" && mine=yes
		[ $mine = $leaf ] && cat "$cert"
	done
done
exit 0
