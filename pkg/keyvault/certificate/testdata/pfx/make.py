"""Makes the PKCS#12 files that the openssl command cannot: a NULL password, and the leaf last."""
import ctypes
import sys

crypto = ctypes.CDLL("libcrypto.so.3")
P = ctypes.c_void_p
for name in ("BIO_new_file", "PEM_read_bio_PrivateKey", "PEM_read_bio_X509", "PKCS12_add_cert", "PKCS12_add_key",
             "PKCS12_add_safes"):
    getattr(crypto, name).restype = P
work = sys.argv[1].encode()


def read(what, reader):
    bio = P(crypto.BIO_new_file(work + b"/" + what, b"r"))
    return P(reader(bio, None, None, None))


def make(path, password, algorithm, leaf, order):
    key = read(leaf + b".key", crypto.PEM_read_bio_PrivateKey)
    bags, keys, safes = P(), P(), P()
    for name in order:
        bag = P(crypto.PKCS12_add_cert(ctypes.byref(bags), read(name + b".crt", crypto.PEM_read_bio_X509)))
        if name == leaf:
            assert crypto.PKCS12_add_localkeyid(bag, b"leaf", 4)
    assert crypto.PKCS12_add_safe(ctypes.byref(safes), bags, algorithm, 2048, password)
    bag = P(crypto.PKCS12_add_key(ctypes.byref(keys), key, 0, 2048, algorithm, password))
    assert crypto.PKCS12_add_localkeyid(bag, b"leaf", 4)
    assert crypto.PKCS12_add_safe(ctypes.byref(safes), keys, -1, 0, None)
    pfx = P(crypto.PKCS12_add_safes(safes, 0))
    assert crypto.PKCS12_set_mac(pfx, password, -1, None, 0, 2048, P(crypto_digest()))
    bio = P(crypto.BIO_new_file(path, b"w"))
    assert crypto.i2d_PKCS12_bio(bio, pfx)
    crypto.BIO_free(bio)


def crypto_digest():
    crypto.EVP_sha256.restype = P
    return crypto.EVP_sha256()


DES3, AES256, PLAIN = 146, 427, -1  # NID_pbe_WithSHA1And3_Key_TripleDES_CBC, NID_aes_256_cbc, unencrypted bags
chain = [b"rsa-2048", b"int", b"root"]
make(b"null-3des.pfx", None, DES3, b"rsa-2048", chain)
make(b"null-aes-256.pfx", None, AES256, b"rsa-2048", chain)
make(b"empty-3des.pfx", b"", DES3, b"rsa-2048", chain)
make(b"null-plain.pfx", None, PLAIN, b"rsa-2048", chain)
make(b"leaf-last.pfx", b"", AES256, b"rsa-2048", chain[::-1])
make(b"leaf-middle.pfx", b"", AES256, b"ec-p384", [b"root", b"ec-p384", b"int"])
make(b"secp256k1-leaf-last.pfx", b"", AES256, b"secp256k1", [b"root", b"int", b"secp256k1"])
make(b"secp256k1-null-3des.pfx", None, DES3, b"secp256k1", [b"root", b"secp256k1", b"int"])
make(b"secp256k1-bare-last.pfx", b"", AES256, b"secp256k1-bare", [b"root", b"int", b"secp256k1-bare"])
