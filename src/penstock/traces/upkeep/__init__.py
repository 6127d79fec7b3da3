"""What is done to the record as a whole: what goes by age, what somebody asks to have erased or handed out."""
