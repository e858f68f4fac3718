package stream

const brokerChildEnv = "SERALM_TEST_BROKER_CHILD"

func brokerChild(cfg string) {}
