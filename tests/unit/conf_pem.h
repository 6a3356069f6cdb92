/* PEM texts for test_conf.c, made for the tests. */
#ifndef VINHUB_TESTS_UNIT_CONF_PEM_H
#define VINHUB_TESTS_UNIT_CONF_PEM_H

static const char pem_rsa_2048[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAl8MQEPw3Yi3UeImpDW7Q\n"
    "B+UUkMlNMAY0UFyYze8Bo9vZZtyim1GHHJlPekwRFXWf+knmK41F8GZtVfOrgPl+\n"
    "j4yRMD9xjq+Qn8+BXMBJJucDT4uo3dSFXQcRn6Bh6K5M4A49cDLSHhLPbzvJIdLb\n"
    "xPpV7+gOaCPbpe3ulbXthevAPu3LUSDSiTZgC6h9iCuUVEzXhHD4e6+gfwJ/dsfu\n"
    "efS3FHQMCtqJTBkVPDsQS8RIyWkME3ZSUYnhSt/V3SpW6JjyWir82MW7omE9B+F7\n"
    "czLcH1nPJhO2QEMwYMtLPgK4ghsUSRnfrMt0RuhDdlw6l5OYXY3j9E/NhEKzad+A\n"
    "/QIDAQAB\n"
    "-----END PUBLIC KEY-----\n";

static const char pem_rsa_1024[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDNI4AivQHIKeokQdw3x4PjBPNp\n"
    "xMcVZHw/z6IqD+iCl9yJBg5/qHiPwfZDZ+qjifueziWgQgp0qYXyd4QueZzgXYgo\n"
    "gb+DBxkZEIdNVUPAin1DE7SCyEAcQuC4DrOQ4sS+p9EOmQ5R2OV0qsyxfit5KOY7\n"
    "+MFU01WL3/nZ438C6QIDAQAB\n"
    "-----END PUBLIC KEY-----\n";

static const char pem_p256[] = "-----BEGIN PUBLIC KEY-----\n"
                               "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEDxh6CBLPBod9yMrPQtB1yTjqGpw4\n"
                               "81djX/hYPJcg7SM5oiH8+WNBumjznFGwP+F+BSqDu+gCjM4uXdEMxAceBg==\n"
                               "-----END PUBLIC KEY-----\n";

static const char pem_p384[] = "-----BEGIN PUBLIC KEY-----\n"
                               "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEzGU5qzFH6N7lZMAdy4f0cqUhM6a0WQqA\n"
                               "bwlQVZfscNPrtDbSz4XGx3A5YWm+T/z9be3J3pk6oON2BzfNDDmt/OhT0+bAcSlp\n"
                               "WVh/Fl4IeeuA92t1h4PbkRaAbtgDdZUe\n"
                               "-----END PUBLIC KEY-----\n";

static const char pem_ed25519[] =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEASsSwDMYBNBTOKQs7/ONr44nnFSKM9UhRXL2l6qIq+d4=\n"
    "-----END PUBLIC KEY-----\n";

static const char pem_certificate[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBfjCCASWgAwIBAgIUV6Q5Jzde7Tlc69YSbzLlWzaLHuEwCgYIKoZIzj0EAwIw\n"
    "FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTIyMzkzNloYDzIxMjYxMDI4\n"
    "MjIzOTM2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n"
    "PQMBBwNCAAQPGHoIEs8Gh33Iys9C0HXJOOoanDjzV2Nf+Fg8lyDtIzmiIfz5Y0G6\n"
    "aPOcUbA/4X4FKoO76AKMzi5d0QzEBx4Go1MwUTAdBgNVHQ4EFgQUp/3rLLUaOdfl\n"
    "p/ykfj7oUPvSxJMwHwYDVR0jBBgwFoAUp/3rLLUaOdflp/ykfj7oUPvSxJMwDwYD\n"
    "VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiA6W7C748Im44bLIZaroyLe\n"
    "NTLQqdkvLfNTYrhJ1dNz1gIgBX8IaSFF+IWoI2za5r+fdQj1rS/1GyqLU8RMKvUt\n"
    "Gc8=\n"
    "-----END CERTIFICATE-----\n";

static const char pem_key[] = "-----BEGIN EC PRIVATE KEY-----\n"
                              "MHcCAQEEINSlB4qy7uBcO07cTODEqk5/XjjdPhvZ07SPYco3+YkUoAoGCCqGSM49\n"
                              "AwEHoUQDQgAEDxh6CBLPBod9yMrPQtB1yTjqGpw481djX/hYPJcg7SM5oiH8+WNB\n"
                              "umjznFGwP+F+BSqDu+gCjM4uXdEMxAceBg==\n"
                              "-----END EC PRIVATE KEY-----\n";

static const char pem_other_key[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIIpclWceBhdI3H/gXuKijOFB1aAlb5NC6gJkMoNqzXJboAoGCCqGSM49\n"
    "AwEHoUQDQgAE4L+ln3CGWzwgxmK4YfEJEKo4kstSdghG+mRgEpCV1FIZVblNd6+H\n"
    "HGc6ROr/oTLcl3Q5EAMsjawLJBDA/oe7Ww==\n"
    "-----END EC PRIVATE KEY-----\n";

static const char pem_encrypted_key[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgO0gX29EpaDgICCAAw\n"
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEJkIfWwtJ+baqRUUnR+hm7oEgZCe\n"
    "pZkzkKmZBfrpsMLanrjiU9xJzVdKtzLwJlLxhZUS0TJFkQ+cByiC0oXXbcje6/v1\n"
    "aOYDXYXBYIjV4Rk2NWzCU4uowqYgWko6IVFzXQyZtOQx4rMzwZLQqzCsQV563aZS\n"
    "Ue91PfDuBBpZbAHhFeRfuP0IqFZlbE1hfgNOwYBVyCAz51CpgDalEs2mcckBIgE=\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n";

#endif
