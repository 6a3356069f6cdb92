/* The examples of the RFCs: keys and what is signed with them. */
#ifndef VINHUB_TESTS_RFC_KEYS_H
#define VINHUB_TESTS_RFC_KEYS_H

/* RFC 7515 appendix A.1 */
#define RFC7515_A1_K \
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
#define RFC7515_CLAIMS                                                                             \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "f"                                                                                            \
    "Q"
#define RFC7515_A1_HEADER    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
#define RFC7515_A1_SIGNATURE "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define RFC7515_A1           RFC7515_A1_HEADER "." RFC7515_CLAIMS "." RFC7515_A1_SIGNATURE

/* A.2 */
#define RFC7515_A2_N                                                               \
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-"        \
    "4qPCJrcS2mJPMEzP1Pt0Bm4d"                                                     \
    "4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-"      \
    "bSf63kpaSHSXndS5z5rexM"                                                       \
    "dbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_" \
    "I5IhlJH7aGhyxXFvU"                                                            \
    "K-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
#define RFC7515_A2_HEADER "eyJhbGciOiJSUzI1NiJ9"
#define RFC7515_A2_SIGNATURE                                                                \
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_" \
    "O8W2Fp5j"                                                                              \
    "ujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_"                                     \
    "nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L"                                          \
    "07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-"                                         \
    "eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEU"                                      \
    "ipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
#define RFC7515_A2 RFC7515_A2_HEADER "." RFC7515_CLAIMS "." RFC7515_A2_SIGNATURE

/* A.3 */
#define RFC7515_A3_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define RFC7515_A3_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define RFC7515_A3                                                                      \
    "eyJhbGciOiJFUzI1NiJ9." RFC7515_CLAIMS ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4Gawxaep" \
    "mXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
/* A.5: without a signature */
#define RFC7515_A5 "eyJhbGciOiJub25lIn0." RFC7515_CLAIMS "."

/* RFC 8037 appendix A.1 to A.4; the signed text is not JSON. */
#define RFC8037_D "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
#define RFC8037_X "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
#define RFC8037_A4                                                                \
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0Jzln" \
    "LWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

/* RFC 7517 appendix A.1 */
#define RFC7517_X "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
#define RFC7517_Y "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
#define RFC7517_N                                                                             \
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_" \
    "BJECPe"                                                                                  \
    "bWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"      \
    "FDW2QvzqY36"                                                                             \
    "8QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"                  \
    "bFTWhAI4vMQFh6WeZu0fM4l"                                                                 \
    "Fd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"

/* As JWKs; more: further members, with a comma before them. */
#define JWK_RSA(n, more) "{\"kty\":\"RSA\",\"n\":\"" n "\",\"e\":\"AQAB\"" more "}"
#define JWK_P256(x, y, more) \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" x "\",\"y\":\"" y "\"" more "}"
#define JWK_ED25519(x, more) "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" x "\"" more "}"
#define JWK_OCT(k, more)     "{\"kty\":\"oct\",\"k\":\"" k "\"" more "}"
#define JWKS(keys)           "{\"keys\":[" keys "]}"
#define KID(kid)             ",\"kid\":\"" kid "\""
#define ALG(alg)             ",\"alg\":\"" alg "\""

/* RFC 7517 appendices A.1, A.2 (of the private keys only d matters here), A.3 */
#define RFC7517_A1                                                                \
    JWKS(JWK_P256(RFC7517_X, RFC7517_Y, ",\"use\":\"enc\"" KID("1")) "," JWK_RSA( \
        RFC7517_N, ALG("RS256") KID("2011-04-29")))
#define RFC7517_A2                                                                              \
    JWKS(JWK_P256(RFC7517_X, RFC7517_Y,                                                         \
                  ",\"d\":\"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE\",\"use\":\"enc\"" KID( \
                      "1")) "," JWK_RSA(RFC7517_N,                                              \
                                        ",\"d\":\"AQAB\"" ALG("RS256") KID("2011-04-29")))
#define RFC7517_A3                                                     \
    JWKS(JWK_OCT("GawgguFyGrWKav7AX4VKUg", ALG("A128KW")) "," JWK_OCT( \
        RFC7515_A1_K, KID("HMAC key used in JWS spec Appendix A.1 example")))

#endif
