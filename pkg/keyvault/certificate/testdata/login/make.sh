#!/bin/sh
# Makes the client certificates of this folder anew, with openssl 3: a root, an issuer, and a leaf in many forms. The
# password, where there is one, is "the password".
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pass=pass:'the password'
rm -f ./*.pem ./*.pfx

# new NAME SUBJECT ISSUER CA [ec]: a key, and a certificate that the issuer signs, or itself
new() {
	name=$1 subject=$2 issuer=${3:-} ca=$4 key=${5:-rsa:2048}
	if [ -n "$issuer" ]; then set -- -CA "$work/$issuer.crt" -CAkey "$work/$issuer.key"; else set --; fi
	case $key in
	ec) openssl ecparam -name prime256v1 -genkey -noout -out "$work/$name.key" ;;
	*) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/$name.key" ;;
	esac
	openssl req -x509 -new -key "$work/$name.key" -subj "$subject" -days 36500 -out "$work/$name.crt" \
		-addext "basicConstraints=critical,CA:$ca" "$@" 2>/dev/null
}
new root '/CN=login root' '' TRUE
new issuer '/CN=login issuer' root TRUE
new leaf '/CN=login.example.com' issuer FALSE
new other '/CN=other.example.com' issuer FALSE
new ec '/CN=login.example.com' issuer FALSE ec
cd "$work"

chain() { cat leaf.crt issuer.crt; }
out=$OLDPWD
{ cat leaf.key; chain; } >"$out/plain.pem"
{ cat issuer.crt leaf.crt leaf.key; } >"$out/leaf-last.pem"
{ openssl rsa -in leaf.key -traditional 2>/dev/null; chain; } >"$out/pkcs1.pem"
{ openssl pkcs8 -topk8 -in leaf.key -passout "$pass"; chain; } >"$out/aes256-password.pem"
{ openssl pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA512 -in leaf.key -passout "$pass"; chain; } >"$out/aes128-password.pem"
{ openssl pkcs8 -topk8 -v2 des3 -v2prf hmacWithSHA1 -in leaf.key -passout "$pass"; chain; } >"$out/des3-password.pem"
{ openssl rsa -in leaf.key -traditional -aes256 -passout "$pass" 2>/dev/null; chain; } >"$out/traditional-password.pem"
{ openssl pkcs8 -topk8 -scrypt -in leaf.key -passout "$pass"; chain; } >"$out/scrypt-password.pem"
{ openssl pkcs8 -topk8 -iter 2000000 -in leaf.key -passout "$pass"; chain; } >"$out/slow-password.pem"
openssl pkcs12 -export -inkey leaf.key -in leaf.crt -certfile issuer.crt -passout pass: -out "$out/plain.pfx"
openssl pkcs12 -export -inkey leaf.key -in leaf.crt -certfile issuer.crt -passout "$pass" -out "$out/modern-password.pfx"
openssl pkcs12 -export -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -inkey leaf.key -in leaf.crt -certfile issuer.crt \
	-passout "$pass" -out "$out/legacy-password.pfx"
openssl pkcs12 -export -nokeys -in leaf.crt -passout "$pass" -out "$out/no-key.pfx"
chain >"$out/no-key.pem"
cp leaf.key "$out/no-certificate.pem"
cat other.key leaf.crt >"$out/foreign.pem"
cat ec.key ec.crt >"$out/ec.pem"
cp root.crt "$out/root.pem"
chmod 644 "$out"/*.p[ef]*
