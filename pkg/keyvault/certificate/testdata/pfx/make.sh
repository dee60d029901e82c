#!/bin/sh
# Makes the PKCS#12 files of this folder and records beside each what OpenSSL says that it holds. Needs OpenSSL 3 with
# its legacy provider, and Python 3 for what the command line cannot make. Run it in this folder.
#
#   NAME.pfx        the file, with an empty password
#   NAME.pem        its key, then the certificate of the key, then the other certificates in the order of the file
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -f ./*.pfx ./*.pem
days=36500

issue() { # name, issuer, subject, extensions
	openssl req -new -key "$work/$1.key" -subj "$3" -out "$work/$1.csr"
	printf '%b' "$4" >"$work/$1.ext"
	if [ "$2" = self ]; then
		openssl x509 -req -in "$work/$1.csr" -signkey "$work/$1.key" -days $days -extfile "$work/$1.ext" -out "$work/$1.crt"
	else
		openssl x509 -req -in "$work/$1.csr" -CA "$work/$2.crt" -CAkey "$work/$2.key" -CAcreateserial -days $days \
			-extfile "$work/$1.ext" -out "$work/$1.crt"
	fi 2>/dev/null
}
key() { openssl genpkey -out "$work/$1.key" -algorithm "$2" ${3:+-pkeyopt "$3"} 2>/dev/null; }

ca='basicConstraints=critical,CA:true\nkeyUsage=keyCertSign\nsubjectKeyIdentifier=none\n'
key root RSA rsa_keygen_bits:2048; issue root self "/CN=Test Root" "$ca"
key int EC ec_paramgen_curve:P-256; issue int root "/CN=Test Intermediate" "$ca"

leaf() { # name, algorithm, option
	key "$1" "$2" "${3:-}"
	issue "$1" int "/CN=$1.example.com" "subjectAltName=DNS:$1.example.com\n"
}
leaf rsa-2048 RSA rsa_keygen_bits:2048
leaf rsa-3072 RSA rsa_keygen_bits:3072
leaf rsa-4096 RSA rsa_keygen_bits:4096
leaf ec-p256 EC ec_paramgen_curve:P-256
leaf ec-p384 EC ec_paramgen_curve:P-384
leaf ec-p521 EC ec_paramgen_curve:P-521
leaf ed25519 ED25519
leaf secp256k1 EC ec_paramgen_curve:secp256k1
cat "$work/int.crt" "$work/root.crt" >"$work/cas.pem"
cat "$work/root.crt" "$work/int.crt" >"$work/cas-root-first.pem"

export_pfx() { # file, leaf, further arguments
	name=$1 of=$2; shift 2
	openssl pkcs12 -export -out "$name.pfx" -inkey "$work/$of.key" -in "$work/$of.crt" -passout pass: "$@"
}
for of in rsa-2048 rsa-3072 rsa-4096 ec-p256 ec-p384 ec-p521 ed25519 secp256k1; do
	export_pfx "$of" "$of" -certfile "$work/cas.pem"
done
export_pfx 3des rsa-2048 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg SHA1
export_pfx rc2-40 rsa-2048 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-RC2-40 -macalg SHA1
export_pfx rc2-128 rsa-2048 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-128 -macalg SHA1
export_pfx 3des-ec ec-p256 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg SHA1
export_pfx aes-128 rsa-2048 -certfile "$work/cas.pem" -keypbe AES-128-CBC -certpbe AES-128-CBC -macalg SHA1
export_pfx sha-512 rsa-2048 -certfile "$work/cas.pem" -macalg SHA512
export_pfx no-mac rsa-2048 -certfile "$work/cas.pem" -nomac
export_pfx plain rsa-2048 -certfile "$work/cas.pem" -nomac -keypbe NONE -certpbe NONE
export_pfx plain-mac rsa-2048 -certfile "$work/cas.pem" -keypbe NONE -certpbe NONE
export_pfx names rsa-2048 -certfile "$work/cas.pem" -name "web & sömewhere" -caname one -caname two
export_pfx root-first rsa-2048 -certfile "$work/cas-root-first.pem"
export_pfx leaf-only rsa-2048
openssl pkcs12 -export -out cert-only.pfx -nokeys -in "$work/rsa-2048.crt" -passout pass:
cat "$work/cas-root-first.pem" "$work/rsa-2048.crt" | openssl pkcs12 -export -out cert-only-root-first.pfx -nokeys -passout pass:
openssl pkcs12 -export -out key-only.pfx -nocerts -inkey "$work/rsa-2048.key" -passout pass:
openssl pkcs12 -export -out password.pfx -inkey "$work/rsa-2048.key" -in "$work/rsa-2048.crt" -passout pass:secret
openssl pkcs12 -export -out iterations.pfx -inkey "$work/rsa-2048.key" -in "$work/rsa-2048.crt" -passout pass: -iter 1000001

# Keys and certificates that Go's library does not know, and EC keys without the copy of their public half.
leaf ed448 ED448
for of in ec-p256 secp256k1; do
	openssl ec -in "$work/$of.key" -no_public 2>/dev/null | openssl pkcs8 -topk8 -nocrypt -out "$work/$of-bare.key"
	cp "$work/$of.crt" "$work/$of-bare.crt"
	export_pfx "$of-bare" "$of-bare" -certfile "$work/cas.pem"
done
cp "$work/rsa-2048.key" "$work/negative-serial.key"
openssl x509 -req -in "$work/rsa-2048.csr" -CA "$work/int.crt" -CAkey "$work/int.key" -set_serial -5 -days $days \
	-out "$work/negative-serial.crt" 2>/dev/null
export_pfx negative-serial negative-serial -certfile "$work/cas.pem"
export_pfx ed448 ed448 -certfile "$work/cas.pem"
export_pfx key-usage rsa-2048 -certfile "$work/cas.pem" -keysig
export_pfx secp256k1-key-usage secp256k1 -certfile "$work/cas.pem" -keysig
export_pfx secp256k1-3des secp256k1 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg SHA1
export_pfx secp256k1-rc2 secp256k1 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-RC2-40 -macalg SHA1
export_pfx secp256k1-rc2-128 secp256k1 -certfile "$work/cas.pem" -legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-128 -macalg SHA1
export_pfx secp256k1-plain secp256k1 -certfile "$work/cas.pem" -nomac -keypbe NONE -certpbe NONE
openssl ecparam -name secp256k1 -genkey -noout -param_enc explicit -out "$work/secp256k1-explicit.key"
issue secp256k1-explicit self "/CN=secp256k1-explicit.example.com" "subjectAltName=DNS:secp256k1-explicit.example.com\n"
export_pfx secp256k1-explicit secp256k1-explicit
export_pfx secp256k1-explicit-plain secp256k1-explicit -nomac -keypbe NONE -certpbe NONE
python3 make.py "$work"

for file in *.pfx; do
	name=${file%.pfx}
	case $name in cert-only | cert-only-root-first | key-only | password | iterations) continue ;; esac
	sh ./describe.sh "$file" >"$name.pem"
done

chmod 644 ./*.pfx

# What Key Vault gives as application/x-pem-file, in forms that other tools make as well.
mkdir -p ../pem && rm -f ../pem/*
for of in rsa-2048 ec-p256 ed25519 secp256k1; do
	cat "$work/$of.key" "$work/$of.crt" "$work/cas.pem" >"../pem/$of.pem"
done
cat "$work/cas-root-first.pem" "$work/rsa-2048.crt" "$work/rsa-2048.key" >../pem/leaf-last.pem
openssl rsa -in "$work/rsa-2048.key" -traditional -out "$work/pkcs1.key" 2>/dev/null
cat "$work/pkcs1.key" "$work/rsa-2048.crt" "$work/cas.pem" >../pem/pkcs1.pem
openssl ecparam -name prime256v1 >"$work/sec1.key"
openssl ec -in "$work/ec-p256.key" 2>/dev/null >>"$work/sec1.key"
cat "$work/sec1.key" "$work/ec-p256.crt" "$work/cas.pem" >../pem/sec1.pem
cat "$work/rsa-2048.crt" "$work/cas.pem" >../pem/no-key.pem
cp secp256k1-explicit.pem ../pem/secp256k1-explicit.pem
{ openssl ec -in "$work/secp256k1-explicit.key" -param_enc explicit 2>/dev/null; cat "$work/secp256k1-explicit.crt"; } >../pem/secp256k1-explicit-sec1.pem
openssl pkcs8 -topk8 -in "$work/rsa-2048.key" -passout pass:secret >"$work/encrypted.key"
cat "$work/encrypted.key" "$work/rsa-2048.crt" >../pem/encrypted.pem
